using System.Diagnostics;
using System.Net.Http.Headers;
using System.Text;

namespace Pandora.HostTests;

/// <summary>Streams behind a reverse proxy that buffers answers, as nginx does by default.</summary>
public sealed class ProxyTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);
    private static readonly string Nginx = Environment.GetEnvironmentVariable("PANDORA_TEST_NGINX") ?? "nginx";

    [Fact]
    public async Task Output_comes_through_nginx_as_it_is_written()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        await File.WriteAllTextAsync(Path.Combine(directory, "nginx.conf"), $$"""
            daemon off; master_process off; pid {{directory}}/pid; error_log {{directory}}/log;
            events { }
            http {
                access_log off;
                client_body_temp_path {{directory}}/body; proxy_temp_path {{directory}}/proxy; fastcgi_temp_path {{directory}}/fastcgi;
                uwsgi_temp_path {{directory}}/uwsgi; scgi_temp_path {{directory}}/scgi;
                server {
                    listen 127.0.0.1:8080;
                    location / {
                        proxy_pass http://127.0.0.1:8000; proxy_http_version 1.1; proxy_buffering on; proxy_set_header Host $http_host;
                    }
                }
            }
            """);
        var start = new ProcessStartInfo(
            "nsenter",
            [$"--net={fixture.World.Host.Path}", Nginx, "-p", directory, "-e", $"{directory}/log", "-c", $"{directory}/nginx.conf"]);
        using var nginx = Process.Start(start)!;
        try
        {
            await using var sandbox = await fixture.Server.Pandora.CreateAsync();
            using var http = fixture.World.Host.CreateHttpClient("http://127.0.0.1:8080");
            await ProcessTests.UntilAsync(() => IsUpAsync(http));
            using var request = new HttpRequestMessage(HttpMethod.Post, new Uri($"/sandboxes/{sandbox.Id}/exec", UriKind.Relative))
            {
                Content = new StringContent("""{"code": "echo early; read -t 20 <> <(:); echo late"}""", Encoding.UTF8, "application/json"),
            };
            request.Headers.Host = "127.0.0.1:8000";
            request.Headers.Accept.Add(new MediaTypeWithQualityHeaderValue("text/event-stream"));
            var begin = Stopwatch.GetTimestamp();
            using var answer = await http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead).WaitAsync(Patience);
            using var reader = new StreamReader(await answer.EnsureSuccessStatusCode().Content.ReadAsStreamAsync());
            var seen = new Dictionary<string, TimeSpan>();
            while (await reader.ReadLineAsync().WaitAsync(Patience) is { } line)
            {
                string[] words = ["early", "heartbeat", "late", "exited"];
                foreach (var word in words.Where(w => line.Contains(w, StringComparison.Ordinal)))
                {
                    seen.TryAdd(word, Stopwatch.GetElapsedTime(begin));
                }
            }

            Assert.Equal(["early", "heartbeat", "late", "exited"], seen.Keys);
            // The command waits for 20 s in between.
            Assert.True(seen["late"] - seen["early"] > TimeSpan.FromSeconds(10), $"{seen["early"]} and {seen["late"]}");
            Assert.True(seen["late"] > seen["heartbeat"], $"{seen["heartbeat"]} and {seen["late"]}");
        }
        finally
        {
            nginx.Kill();
            await nginx.WaitForExitAsync();
            Directory.Delete(directory, recursive: true);
        }
    }

    private static async Task<bool> IsUpAsync(HttpClient http)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, new Uri("/ready", UriKind.Relative));
        request.Headers.Host = "127.0.0.1:8000";
        try
        {
            using var answer = await http.SendAsync(request);
            return true;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
