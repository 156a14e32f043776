using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Security;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.Logging;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Server.Commands;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Tls;
using Pandora.Tests.Gateway;

namespace Pandora.Tests.Hosting.Tls;

/// <summary>A server that speaks TLS, with certificates that <c>./pandora tls init</c> makes.</summary>
public sealed class TlsTests : IDisposable
{
    private const string Domain = "sandbox.test";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-tls-").FullName;
    private readonly StringWriter _error = new();

    private string CertificatePath => Path.Combine(_directory, $"{Domain}.crt");

    private string KeyPath => Path.Combine(_directory, $"{Domain}.key");

    private string AuthorityPath => Path.Combine(_directory, $"{Domain}.ca.crt");

    public void Dispose()
    {
        _error.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task The_API_and_previews_are_served_by_HTTP_2_to_clients_that_trust_the_authority()
    {
        Init();
        await using var api = await FakeServer.StartAsync(Options(), onLoopback: true, client: Client);
        var http = api.Http;
        var created = await http.PostAsync(new Uri("/sandboxes", UriKind.Relative), content: null);
        Assert.Equal((HttpStatusCode.Created, 2), (created.StatusCode, created.Version.Major));
        // A client that does not trust the authority does not connect.
        using var stranger = new HttpClient { BaseAddress = http.BaseAddress };
        await Assert.ThrowsAsync<HttpRequestException>(() => stranger.GetAsync(new Uri("/ready", UriKind.Relative)));
    }

    [Fact]
    public async Task GRPC_passes_a_preview_by_HTTP_2_on_both_sides()
    {
        Init();
        await using var world = await PreviewWorld.OnAsync(await FakeServer.StartAsync(Options(), onLoopback: true, client: Client));
        await world.ServeAsync(
            50051,
            app => app.Run(async context =>
            {
                context.Response.ContentType = "application/grpc";
                await context.Response.WriteAsync($"{context.Request.Protocol} {context.Request.Headers["X-Forwarded-Proto"]}");
                context.Response.AppendTrailer("grpc-status", "0");
            }),
            HttpProtocols.Http2);
        var http = world.Api.Http;
        using var request = new HttpRequestMessage(HttpMethod.Post, "/service/Method")
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent([1]),
        };
        request.Headers.Host = $"50051-{world.Id}.{Domain}";
        request.Content.Headers.TryAddWithoutValidation("Content-Type", "application/grpc");
        using var answer = await http.SendAsync(request);
        Assert.Equal("HTTP/2 https", await answer.Content.ReadAsStringAsync());
        Assert.Equal((2, "0"), (answer.Version.Major, answer.TrailingHeaders.GetValues("grpc-status").Single()));
    }

    [Fact]
    public async Task Of_two_requests_to_a_public_port_on_one_connection_the_end_of_one_sets_no_limit_to_the_other()
    {
        Init();
        await using var world = await PreviewWorld.OnAsync(await FakeServer.StartAsync(Options(), onLoopback: true, client: Client));
        await world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port).SetPublicAsync(80, isPublic: true, CancellationToken.None);
        var (came, answer) = (new TaskCompletionSource(), new TaskCompletionSource());
        await world.ServeAsync(80, app =>
        {
            app.MapGet("/short", () => "short");
            app.MapGet("/long", async () =>
            {
                came.SetResult();
                await answer.Task;
                return "long";
            });
        });
        using var viewer = Client(world.Api.Http.BaseAddress!);
        viewer.DefaultRequestHeaders.Host = $"80-{world.Id}.{Domain}";
        var asking = viewer.GetStringAsync(new Uri("/long", UriKind.Relative));
        await came.Task.WaitAsync(Limit);
        Assert.Equal("short", await viewer.GetStringAsync(new Uri("/short", UriKind.Relative)));
        // Both requests came on one connection; the other is that of the client that made the sandbox.
        Assert.Equal((1, 1), world.Api.Connections.Counts);
        for (var i = 0; i < 30; i++)
        {
            world.Api.Node.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }

        answer.SetResult();
        Assert.Equal("long", await asking.WaitAsync(Limit));
        Assert.Equal((1, 1), world.Api.Connections.Counts);
    }

    [Fact]
    public async Task An_invalid_trailer_of_a_guest_breaks_its_answer_and_is_no_error_of_the_servers()
    {
        Init();
        using var log = new KeptLog();
        await using var world = await PreviewWorld.OnAsync(
            await FakeServer.StartAsync(Options(), onLoopback: true, client: Client, loggers: log));
        world.Answer(
            3000, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: a\u0001b\r\n\r\n");
        using var request = new HttpRequestMessage(HttpMethod.Get, "/")
        {
            Version = HttpVersion.Version20,
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        request.Headers.Host = $"3000-{world.Id}.{Domain}";
        await Assert.ThrowsAsync<HttpRequestException>(() => world.Api.Http.SendAsync(request));
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.BadAnswer) == 1);
        Assert.Equal(0, world.Api.Metrics.Count(PreviewResult.Ok));
        Assert.Empty(log.Errors);
    }

    [Fact]
    public void A_renewed_certificate_is_used_without_a_restart_and_a_broken_one_is_not()
    {
        Init();
        var time = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        using var certificate = new TlsCertificate(Options(), time, NullLogger<TlsCertificate>.Instance);
        var first = certificate.Context.TargetCertificate.SerialNumber;
        File.WriteAllText(CertificatePath, "half a file");
        certificate.Look();
        Assert.Equal(first, certificate.Context.TargetCertificate.SerialNumber);
        Init();
        certificate.Look();
        Assert.NotEqual(first, certificate.Context.TargetCertificate.SerialNumber);
    }

    [Fact]
    public void Files_that_cannot_be_looked_at_keep_the_certificate_and_the_problem_is_logged_once_until_it_is_over()
    {
        Init();
        using var log = new KeptLog();
        var time = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        using var certificate = new TlsCertificate(Options(), time, log.CreateLogger<TlsCertificate>());
        var first = certificate.Context.TargetCertificate.SerialNumber;
        for (var times = 1; times <= 2; times++)
        {
            // A link that leads to itself: not even its target can be found.
            File.Delete(CertificatePath);
            File.CreateSymbolicLink(CertificatePath, CertificatePath);
            certificate.Look();
            certificate.Look();
            Assert.Equal(times, log.Errors.Count);
            Assert.Equal(first, certificate.Context.TargetCertificate.SerialNumber);
            File.Delete(CertificatePath);
            Init();
            certificate.Look();
            Assert.NotEqual(first, certificate.Context.TargetCertificate.SerialNumber);
            first = certificate.Context.TargetCertificate.SerialNumber;
        }
    }

    [Fact]
    public void Files_that_could_not_be_used_are_read_again_though_they_look_the_same()
    {
        Init();
        var time = new FakeTimeProvider(TimeProvider.System.GetUtcNow());
        using var certificate = new TlsCertificate(Options(), time, NullLogger<TlsCertificate>.Instance);
        var first = certificate.Context.TargetCertificate.SerialNumber;
        Init();
        var (renewed, written) = (File.ReadAllText(CertificatePath), File.GetLastWriteTimeUtc(CertificatePath));
        foreach (var text in new[] { new string('x', renewed.Length), renewed })
        {
            Assert.Equal(first, certificate.Context.TargetCertificate.SerialNumber);
            File.WriteAllText(CertificatePath, text);
            File.SetLastWriteTimeUtc(CertificatePath, written);
            certificate.Look();
        }

        Assert.NotEqual(first, certificate.Context.TargetCertificate.SerialNumber);
    }

    [Fact]
    public async Task Init_makes_a_certificate_for_all_names_below_the_domain_and_keeps_the_keys_private()
    {
        Init();
        using (var certificate = X509CertificateLoader.LoadCertificateFromFile(CertificatePath))
        {
            using var chain = new X509Chain { ChainPolicy = Policy() };
            Assert.True(chain.Build(certificate), string.Join(", ", chain.ChainStatus.Select(s => s.StatusInformation)));
            Assert.True(certificate.MatchesHostname($"8000-abc.{Domain}"));
            Assert.True(certificate.MatchesHostname(Domain));
            Assert.False(certificate.MatchesHostname("other.test"));
        }

        foreach (var key in Directory.GetFiles(_directory, "*.key"))
        {
            Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(key));
        }

        // An ordinary user cannot read the directory: clients need a copy of the authority's certificate.
        Assert.Contains("is no secret", _error.ToString());
        Assert.Contains($"sudo cat {AuthorityPath} > pandora-ca.crt", _error.ToString());
        Assert.DoesNotContain($"--cacert {AuthorityPath}", _error.ToString());
        var authority = await File.ReadAllTextAsync(AuthorityPath, TestContext.Current.CancellationToken);
        Init();
        // The second time renews the certificate and keeps the authority, which clients trust already.
        Assert.Equal(authority, await File.ReadAllTextAsync(AuthorityPath, TestContext.Current.CancellationToken));
        Assert.Contains("renewed", _error.ToString());
    }

    [Theory]
    [InlineData("nodots", 30)]
    [InlineData("Sandbox.test", 30)]
    [InlineData("../etc.test", 30)]
    [InlineData("sandbox.test", 0)]
    [InlineData("sandbox.test", 4000)]
    public void Init_refuses_what_is_no_domain_or_no_time_and_makes_nothing(string domain, int days)
    {
        Assert.Throws<StartupException>(
            () => TlsCommand.Init(_directory, domain, days, TimeProvider.System.GetUtcNow(), TextWriter.Null, _error));
        Assert.Empty(Directory.GetFiles(_directory));
    }

    [Theory]
    [InlineData("https://127.0.0.1:8443", false, false, "PANDORA_TLS_CERTIFICATE and PANDORA_TLS_KEY")]
    [InlineData("http://127.0.0.1:8000", true, true, "write https://")]
    [InlineData("https://127.0.0.1:8443", true, false, "PANDORA_TLS_KEY is not")]
    [InlineData("https://127.0.0.1:8443", false, true, "PANDORA_TLS_CERTIFICATE is not")]
    public void Settings_that_do_not_belong_together_refuse_the_start(string listen, bool hasCertificate, bool hasKey, string message)
    {
        var options = new ServerOptions
        {
            Listen = listen,
            TlsCertificate = hasCertificate ? CertificatePath : "",
            TlsKey = hasKey ? KeyPath : "",
        };
        var refused = Assert.Throws<StartupException>(() => ListenAddress.Check(options, needsKey: false, FakeServer.Tcg));
        Assert.Contains(message, refused.Message);
    }

    [Fact]
    public void Files_that_are_missing_mismatched_or_ended_refuse_the_start()
    {
        Assert.Contains("cannot be read", Refusal().Message);
        Init();
        var key = File.ReadAllText(KeyPath);
        Init();
        File.WriteAllText(KeyPath, key);
        Assert.Contains("are not a certificate and its key", Refusal().Message);
        Directory.GetFiles(_directory).ToList().ForEach(File.Delete);
        TlsCommand.Init(_directory, Domain, 1, TimeProvider.System.GetUtcNow().AddDays(-3), TextWriter.Null, _error);
        Assert.Contains("ended at", Refusal().Message);
    }

    private StartupException Refusal() => Assert.Throws<StartupException>(
        () => new TlsCertificate(Options(), TimeProvider.System, NullLogger<TlsCertificate>.Instance).Dispose());

    private void Init() => TlsCommand.Init(_directory, Domain, 30, TimeProvider.System.GetUtcNow(), TextWriter.Null, _error);

    private ServerOptions Options() =>
        new() { Listen = "https://127.0.0.1:8443", TlsCertificate = CertificatePath, TlsKey = KeyPath, PreviewDomain = Domain };

    // It trusts the authority only, and asks for HTTP/2.
    [SuppressMessage("Reliability", "CA2000", Justification = "The client disposes of the handler.")]
    private HttpClient Client(Uri address)
    {
        var handler = new SocketsHttpHandler { SslOptions = new SslClientAuthenticationOptions { CertificateChainPolicy = Policy() } };
        return new HttpClient(handler)
        {
            BaseAddress = new Uri($"https://localhost:{address.Port}"),
            DefaultRequestVersion = HttpVersion.Version20,
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionOrHigher,
        };
    }

    private X509ChainPolicy Policy()
    {
        var policy = new X509ChainPolicy { TrustMode = X509ChainTrustMode.CustomRootTrust, RevocationMode = X509RevocationMode.NoCheck };
        policy.CustomTrustStore.Add(X509CertificateLoader.LoadCertificateFromFile(AuthorityPath));
        return policy;
    }
}
