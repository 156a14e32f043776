using System.Diagnostics;
using System.Net;
using System.Text.Json;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests.Monitoring;

/// <summary>
/// The distribution's Prometheus with this repository's configuration, in a namespace. The intervals are shorter, and the key is written to
/// the configured file.
/// </summary>
internal sealed class Prometheus : IAsyncDisposable
{
    /// <summary>Between two scrapes and two evaluations. A scrape that takes longer counts as failed.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromSeconds(3);

    public static readonly string Configuration = Path.Combine(Repository.Root, "deploy/monitoring/prometheus");
    private static readonly string Tools = Environment.GetEnvironmentVariable("PANDORA_TEST_PROMETHEUS") is { Length: > 0 } directory
        ? directory + "/"
        : "";
    private readonly string _directory;
    private readonly Process _process;
    private readonly HttpClient _http;

    private Prometheus(string directory, Process process, HttpClient http)
    {
        _directory = directory;
        _process = process;
        _http = http;
    }

    /// <summary>Runs promtool and returns what it prints.</summary>
    public static Task<string> ToolAsync(string[] arguments, string? input = null) =>
        Command.RunAsync($"{Tools}promtool", arguments, input);

    /// <summary>Copies the configuration, with shorter intervals and a key, and returns the new directory.</summary>
    public static string CopyConfiguration(string key)
    {
        var directory = Directory.CreateTempSubdirectory("pandora-prometheus-").FullName;
        foreach (var file in Directory.GetFiles(Configuration, "*", SearchOption.AllDirectories))
        {
            var copy = Path.Combine(directory, Path.GetRelativePath(Configuration, file));
            Directory.CreateDirectory(Path.GetDirectoryName(copy)!);
            File.Copy(file, copy);
        }

        var main = Path.Combine(directory, "prometheus.yml");
        var text = File.ReadAllText(main);
        Assert.Contains("scrape_interval: 5s", text);
        File.WriteAllText(
            main,
            text.Replace("scrape_interval: 5s", $"scrape_interval: {Interval.TotalSeconds}s")
                .Replace("scrape_timeout: 4s", $"scrape_timeout: {Interval.TotalSeconds}s")
                .Replace("evaluation_interval: 5s", $"evaluation_interval: {Interval.TotalSeconds}s"));
        File.WriteAllText(Path.Combine(directory, "metrics-key"), key + "\n");
        return directory;
    }

    public static async Task<Prometheus> StartAsync(NetworkNamespace place, string key)
    {
        var directory = CopyConfiguration(key);
        var start = new ProcessStartInfo("/bin/sh");
        foreach (
            var argument in new[]
            {
                "-c",
                "exec nsenter --net=\"$1\" \"$2\" --config.file=\"$3/prometheus.yml\" --storage.tsdb.path=\"$3/data\" "
                    + "--web.listen-address=127.0.0.1:9090 > \"$3/log\" 2>&1 < /dev/null",
                "prometheus",
                place.Path,
                $"{Tools}prometheus",
                directory,
            })
        {
            start.ArgumentList.Add(argument);
        }

        var prometheus = new Prometheus(directory, Process.Start(start)!, place.CreateHttpClient("http://127.0.0.1:9090"));
        try
        {
            await prometheus.WaitUntilReadyAsync();
            return prometheus;
        }
        catch
        {
            await prometheus.DisposeAsync();
            throw;
        }
    }

    /// <summary>Evaluates an expression now and returns the result's type and its samples.</summary>
    public async Task<(string Type, IReadOnlyList<(JsonElement Labels, double Value)> Samples)> QueryAsync(string expression)
    {
        var data = await GetAsync($"/api/v1/query?query={Uri.EscapeDataString(expression)}");
        return (
            data.GetProperty("resultType").GetString()!,
            [
                .. data.GetProperty("result")
                    .EnumerateArray()
                    .Select(s =>
                        (
                            s.GetProperty("metric"),
                            double.Parse(s.GetProperty("value")[1].GetString()!, System.Globalization.CultureInfo.InvariantCulture))),
            ]);
    }

    /// <summary>Calls Prometheus' API and returns the data of the answer.</summary>
    public async Task<JsonElement> GetAsync(string path)
    {
        using var response = await _http.GetAsync(new Uri(path, UriKind.Relative));
        var answer = JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
        Assert.True(answer.GetProperty("status").GetString() == "success", $"{Uri.UnescapeDataString(path)}: {answer}");
        return answer.GetProperty("data");
    }

    public async ValueTask DisposeAsync()
    {
        using (var handle = ProcessHandle.TryOpen(_process.Id))
        {
            handle?.Kill(15);
        }

        await _process.WaitForExitAsync();
        _process.Dispose();
        _http.Dispose();
        Directory.Delete(_directory, recursive: true);
    }

    private async Task WaitUntilReadyAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System);
        while (!await IsReadyAsync())
        {
            if (_process.HasExited || limit.IsCancellationRequested)
            {
                // The shell makes the log, and may not have come to it.
                var log = Path.Combine(_directory, "log");
                Assert.Fail($"Prometheus is not ready: {(File.Exists(log) ? await File.ReadAllTextAsync(log) : "it has written nothing")}");
            }

            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }
    }

    private async Task<bool> IsReadyAsync()
    {
        try
        {
            using var response = await _http.GetAsync(new Uri("/-/ready", UriKind.Relative));
            return response.StatusCode == HttpStatusCode.OK;
        }
        catch (HttpRequestException)
        {
            return false;
        }
    }
}
