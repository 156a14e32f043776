using System.Diagnostics;
using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Linux;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// What files cost. The reference is OpenSSH's <c>scp</c> and <c>ssh</c> on this host with dropbear in the same microVM, which this part
/// starts there. Both move the same files in the same run, in turn.
/// </summary>
internal static class FileBench
{
    private const int Rounds = 2, SmallFiles = 10_000, SmallBytes = 1024, WatchSeconds = 5;
    private const long Mebibyte = 1024 * 1024;
    private const long BigBytes = 256 * Mebibyte;

    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server)
    {
        var work = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        try
        {
            await using var sandbox = await server.Pandora.CreateAsync(
                new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(3600) });
            await server.WaitForQuietAsync(1);
            using var http = new HttpClient { BaseAddress = new Uri(server.Url), Timeout = Timeout.InfiniteTimeSpan };
            var ssh = await GuestSsh.StartAsync(server, sandbox, work);
            return
            [
                .. await BigAsync(http, sandbox, ssh, work),
                .. await SmallAsync(http, sandbox, ssh, work),
                await WatchAsync(sandbox),
            ];
        }
        finally
        {
            Directory.Delete(work, recursive: true);
        }
    }

    private static async Task<IReadOnlyList<Result>> BigAsync(HttpClient http, Sandbox sandbox, GuestSsh ssh, string work)
    {
        var (local, copy) = (Path.Combine(work, "big"), Path.Combine(work, "copy"));
        await WriteRandomAsync(local, BigBytes);
        TimeSpan up = default, down = default, scpUp = default, scpDown = default;
        for (var round = 0; round < Rounds; round++)
        {
            up = Shorter(up, await TimeAsync(async () =>
            {
                await using var file = File.OpenRead(local);
                using var answer = await http.PutAsync(Url(sandbox, "?path=/root/big"), new StreamContent(file));
                answer.EnsureSuccessStatusCode();
            }));
            scpUp = Shorter(scpUp, await TimeAsync(() => ssh.CopyUpAsync(local, "/root/big-scp")));
            down = Shorter(down, await TimeAsync(async () =>
            {
                await using var body = await http.GetStreamAsync(Url(sandbox, "?path=/root/big"));
                await using var file = File.Create(copy);
                await body.CopyToAsync(file, 128 * 1024);
            }));
            await MustBeEqualAsync(local, copy);
            scpDown = Shorter(scpDown, await TimeAsync(() => ssh.CopyDownAsync("/root/big-scp", copy)));
            await MustBeEqualAsync(local, copy);
        }

        await sandbox.ExecAsync("rm /root/big /root/big-scp");
        return
        [
            Compare("up", up, scpUp),
            Compare("down", down, scpDown),
        ];

        static Result Compare(string way, TimeSpan ours, TimeSpan scp) => new(
            $"256 MiB {way}, time / scp's into the same microVM", ours / scp, "×", 1 / 3.0,
            $"{Rate(ours)} / {Rate(scp)} MiB/s, the best of {Rounds}");

        static string Rate(TimeSpan time) => (BigBytes / Mebibyte / time.TotalSeconds).ToString("0.0", CultureInfo.InvariantCulture);
    }

    private static async Task<IReadOnlyList<Result>> SmallAsync(HttpClient http, Sandbox sandbox, GuestSsh ssh, string work)
    {
        var tree = Path.Combine(work, "tree");
        for (var i = 0; i < SmallFiles; i++)
        {
            var directory = Directory.CreateDirectory(Path.Combine(tree, $"{i / 100}")).FullName;
            await WriteRandomAsync(Path.Combine(directory, $"{i}"), SmallBytes);
        }

        TimeSpan ours = default, theirs = default;
        for (var round = 0; round < Rounds; round++)
        {
            await sandbox.ExecAsync("rm -rf /root/tree /root/tree-ssh; sync");
            ours = Shorter(ours, await TimeAsync(() => sandbox.Files.UploadDirectoryAsync(tree, "/root/tree")));
            theirs = Shorter(theirs, await TimeAsync(() => ssh.PackUpAsync(tree, "/root/tree-ssh")));
        }

        var counted = await sandbox.ExecAsync("find /root/tree -type f | wc -l; find /root/tree-ssh -type f | wc -l");
        if (counted.Stdout.Split() is not [var first, var second, ..] || (first, second) != ($"{SmallFiles}", $"{SmallFiles}"))
        {
            throw new InvalidOperationException($"not all files arrived: {counted.Stdout}");
        }

        await sandbox.ExecAsync("mkdir /root/flat; cd /root/flat; for i in $(seq 10000); do : > $i; done");
        Latencies listed = new(), byFind = new();
        for (var round = 0; round < Rounds; round++)
        {
            listed.Add(await TimeAsync(async () =>
            {
                var list = await http.GetFromJsonAsync<FileList>(Url(sandbox, "/list?path=/root/flat&limit=10000"), Wire);
                if (list!.Entries.Count != SmallFiles)
                {
                    throw new InvalidOperationException($"{list.Entries.Count} of {SmallFiles} files were listed");
                }
            }));
            byFind.Add(await TimeAsync(() => sandbox.ExecAsync("find /root/flat -printf '%p %s %m %u %g %T@\\n' > /dev/null")));
        }

        return
        [
            new Result(
                $"{SmallFiles:N0} small files up / by tar over ssh", ours / theirs, "×", 0.7,
                $"{ours.TotalSeconds:0.00} s / {theirs.TotalSeconds:0.00} s, the best of {Rounds}"),
            new Result(
                $"list of {SmallFiles:N0} entries / `find -printf` by exec", listed.Percentile(50) / byFind.Percentile(50), "×", 2,
                $"{listed.Percentile(50):0} ms / {byFind.Percentile(50):0} ms, {Rounds} each"),
        ];
    }

    // A program in the guest writes as fast as it can; each write is an event, and so is each new file.
    private static async Task<Result> WatchAsync(Sandbox sandbox)
    {
        await sandbox.ExecAsync("mkdir /root/watched");
        using var stop = new CancellationTokenSource();
        var (events, lost, started) = (0L, 0L, new TaskCompletionSource());
        var watching = Task.Run(async () =>
        {
            try
            {
                await foreach (var change in sandbox.Files.WatchAsync("/root/watched", cancellationToken: stop.Token))
                {
                    started.TrySetResult();
                    events++;
                    lost += change.Name == FileEvents.Lost ? 1 : 0;
                }
            }
            catch (OperationCanceledException)
            {
                // The measurement ends.
            }
        });
        await started.Task.WaitAsync(TimeSpan.FromSeconds(30));
        const string Storm = """
            import os, sys, time
            end = time.monotonic() + float(sys.argv[1]); n = 0
            while time.monotonic() < end:
                open(f'/root/watched/{n % 50}', 'w').close(); os.unlink(f'/root/watched/{n % 50}'); n += 1
            print(n)
            """;
        var made = await sandbox.ExecAsync($"python3 -c \"$CODE\" {WatchSeconds}", new ExecOptions
        {
            Environment = new Dictionary<string, string> { ["CODE"] = Storm },
        });
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
        await stop.CancelAsync();
        await watching;
        var changes = double.Parse(made.Stdout, CultureInfo.InvariantCulture);
        return new Result(
            "time per event of a watch, while a program makes and deletes files", WatchSeconds * 1000.0 / events, "ms", 1,
            $"{events / WatchSeconds} events/s came, {lost} said that events were lost; {changes / WatchSeconds:0} files/s were made");
    }

    private static readonly JsonSerializerOptions Wire = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private static Uri Url(Sandbox sandbox, string rest) => new($"/sandboxes/{sandbox.Id}/files{rest}", UriKind.Relative);

    private static TimeSpan Shorter(TimeSpan known, TimeSpan measured) => known == default || measured < known ? measured : known;

    private static async Task<TimeSpan> TimeAsync(Func<Task> action)
    {
        var start = Stopwatch.GetTimestamp();
        await action();
        return Stopwatch.GetElapsedTime(start);
    }

    private static async Task WriteRandomAsync(string path, long bytes)
    {
        var buffer = new byte[Math.Min(bytes, Mebibyte)];
        await using var file = File.Create(path);
        for (var written = 0L; written < bytes; written += buffer.Length)
        {
            Random.Shared.NextBytes(buffer);
            await file.WriteAsync(buffer);
        }
    }

    private static async Task MustBeEqualAsync(string first, string second) => await Command.RunAsync("cmp", [first, second]);
}
