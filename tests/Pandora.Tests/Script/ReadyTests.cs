using System.Diagnostics;
using System.Net;
using System.Net.Security;
using System.Net.Sockets;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Pandora.Server.Hosting.Tls;

namespace Pandora.Tests.Script;

/// <summary>How <c>./pandora up --detach</c> and <c>run</c> find out that the server is ready, with TLS and without.</summary>
public sealed class ReadyTests
{
    // Loads the functions of the script without its commands.
    private const string Functions = "source <(sed '/^case ${1:-} in/,$d' \"$0\"); ";

    [Theory]
    [InlineData("http", "200 OK", "ready")]
    [InlineData("http", "503 Service Unavailable", "not ready")]
    [InlineData("https", "200 OK", "ready")]
    [InlineData("https", "503 Service Unavailable", "not ready")]
    public async Task A_server_is_ready_when_it_says_so(string scheme, string status, string expected)
    {
        Assert.SkipWhen(scheme == "https" && !HasCurl(), "this machine has no curl");
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        var serving = ServeAsync(listener, scheme == "https", status);
        var url = $"{scheme}://127.0.0.1:{((IPEndPoint)listener.LocalEndpoint).Port}";
        Assert.Equal(expected, await RunAsync(url, "if ready; then printf ready; else printf 'not ready'; fi"));
        Assert.Equal("GET /ready HTTP/1.1", await serving.WaitAsync(TimeSpan.FromMinutes(1)));
    }

    [Theory]
    [InlineData("http://127.0.0.1:8000", "127.0.0.1 8000")]
    [InlineData("http://sandbox.test", "sandbox.test 80")]
    [InlineData("https://sandbox.test/pandora", "sandbox.test 443")]
    [InlineData("HTTPS://[::1]", "::1 443")]
    [InlineData("https://[::1]:8443/", "::1 8443")]
    public async Task An_address_has_a_host_and_a_port(string url, string expected) =>
        Assert.Equal(expected, await RunAsync(url, "host_and_port; printf '%s %s' \"$host\" \"$port\""));

    private static bool HasCurl() => Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(d => File.Exists(Path.Combine(d, "curl")));

    // Answers one request, and returns its first line.
    private static async Task<string?> ServeAsync(TcpListener listener, bool hasTls, string status)
    {
        using var client = await listener.AcceptTcpClientAsync();
        Stream stream = client.GetStream();
        if (hasTls)
        {
            var now = TimeProvider.System.GetUtcNow();
            using var authority = PrivateAuthority.Create("sandbox.test", now);
            // No client of this server knows the authority.
            var (certificate, key) = PrivateAuthority.Sign(authority, "sandbox.test", now, days: 1);
            using (certificate)
            using (key)
            {
                var tls = new SslStream(stream);
                await tls.AuthenticateAsServerAsync(certificate.CopyWithPrivateKey(key));
                stream = tls;
            }
        }

        await using (stream)
        {
            using var reader = new StreamReader(stream, Encoding.ASCII);
            var first = await reader.ReadLineAsync();
            while (await reader.ReadLineAsync() is { Length: > 0 })
            {
                // The headers.
            }

            await stream.WriteAsync(Encoding.ASCII.GetBytes($"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
            return first;
        }
    }

    private static async Task<string> RunAsync(string url, string code)
    {
        var start = new ProcessStartInfo("bash", ["-c", Functions + code, Repository.PathOf("pandora")])
        {
            RedirectStandardOutput = true,
            Environment = { ["PANDORA_URL"] = url },
        };
        using var process = Process.Start(start)!;
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        Assert.Equal(0, process.ExitCode);
        return output;
    }
}
