using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using Pandora.Client;

namespace Pandora.HostTests;

/// <summary>Processes in real guests: read as they write, by many, from anywhere; fed; signalled; left alone.</summary>
public sealed class ProcessTests(ServerFixture fixture) : IClassFixture<ServerFixture>, IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(300);
    private Sandbox _sandbox = null!;

    public async ValueTask InitializeAsync() =>
        _sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    public async ValueTask DisposeAsync() => await _sandbox.DisposeAsync();

    [Fact]
    public async Task The_first_byte_comes_before_the_command_ends()
    {
        var first = new TaskCompletionSource<string>();
        var running = _sandbox.ExecAsync(
            "echo early; while ! [ -e /tmp/go ]; do sleep 0.1; done; echo late >&2; exit 3",
            new ExecOptions { OnStdout = text => first.TrySetResult(text) });
        Assert.Equal("early\n", await first.Task.WaitAsync(Patience));
        Assert.False(running.IsCompleted);
        await _sandbox.ExecAsync("touch /tmp/go");
        var result = await running.WaitAsync(Patience);
        Assert.Equal((3, "early\n", "late\n"), (result.ExitCode, result.Stdout, result.Stderr));
    }

    [Fact]
    public async Task A_client_that_disconnects_ends_its_command_and_no_other_process()
    {
        var background = await _sandbox.Processes.StartAsync("echo up; exec sleep 1234");
        using (var cancelled = new CancellationTokenSource())
        {
            await foreach (var _ in background.ReadOutputAsync(cancellationToken: cancelled.Token))
            {
                break;
            }

            var started = new TaskCompletionSource();
            var options = new ExecOptions { OnStdout = _ => started.TrySetResult() };
            var running = _sandbox.ExecAsync("echo up; exec sleep 4321", options, cancelled.Token);
            await started.Task.WaitAsync(Patience);
            await cancelled.CancelAsync();
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        }

        await UntilAsync(async () => (await _sandbox.ExecAsync("pgrep -fx 'sleep 4321'")).ExitCode == 1);
        Assert.True((await background.GetAsync()).Result is null);
        Assert.Equal(0, (await _sandbox.ExecAsync("pgrep -fx 'sleep 1234'")).ExitCode);
        await background.SignalAsync("TERM");
        Assert.Equal(143, (await background.WaitAsync()).ExitCode);
        var e = await Assert.ThrowsAsync<PandoraApiException>(() => background.SignalAsync("TERM"));
        Assert.Equal(("process_state", 409), (e.Code, e.Status));
    }

    [Fact]
    public async Task Output_is_read_again_from_any_offset_and_what_was_dropped_is_told()
    {
        // More than is kept: lines of 16 bytes, each its own offset.
        const int Lines = 6 * 1024 * 1024;
        var process = await _sandbox.Processes.StartProgramAsync(
            ["python3", "-c", $"import sys\nfor i in range(0, {Lines}, 4096): sys.stdout.write(''.join('%015d\\n' % (16 * j) "
                + "for j in range(i, i + 4096)))"], new ProcessOptions { Timeout = TimeSpan.FromMinutes(10) });
        Assert.Equal(0, (await process.WaitAsync()).ExitCode);
        var state = await process.GetAsync();
        Assert.Equal(16L * Lines, state.OutputEnd);
        // 64 MiB in the file and 1 MiB in memory, in whole steps.
        Assert.InRange(state.OutputEnd - state.OutputBegin, 60L * 1024 * 1024, 66L * 1024 * 1024);
        foreach (var from in new[] { 0, state.OutputBegin / 2, state.OutputBegin, state.OutputEnd - 1000, state.OutputEnd })
        {
            var next = from;
            await foreach (var output in process.ReadOutputAsync(from))
            {
                Assert.Equal(next, output.Offset);
                if (output.Kind == ProcessOutputKind.Dropped)
                {
                    Assert.Equal((from, state.OutputBegin), (output.Offset, output.EndOffset));
                }
                else
                {
                    AssertLines(output);
                }

                next = output.EndOffset;
            }

            Assert.Equal(state.OutputEnd, next);
        }
    }

    [Fact]
    public async Task A_stalled_reader_makes_only_its_own_process_wait_and_loses_nothing()
    {
        const int Count = 24 * 1024 * 1024;
        var waiting = await _sandbox.Processes.StartAsync(Source(Count), new ProcessOptions { WaitsForReader = true });
        var other = await _sandbox.Processes.StartAsync(Source(Count), new ProcessOptions { WaitsForReader = true });
        // It asks, reads the head of the answer, and then nothing for a minute.
        using var stalled = await AskRawAsync($"/sandboxes/{_sandbox.Id}/processes/{waiting.Id}/output");
        var stalledAt = Stopwatch.GetTimestamp();
        Assert.Equal(HashOf(Count), await HashAsync(other));
        Assert.Equal("works\n", (await _sandbox.ExecAsync("echo works")).Stdout);
        Assert.True((await waiting.GetAsync()).Result is null);
        var written = (await waiting.GetAsync()).OutputEnd;
        Assert.InRange(written, 1024 * 1024, Count - 1);
        var left = TimeSpan.FromSeconds(60) - Stopwatch.GetElapsedTime(stalledAt);
        await Task.Delay(left > TimeSpan.Zero ? left : TimeSpan.Zero, TimeProvider.System);
        Assert.Equal(written, (await waiting.GetAsync()).OutputEnd);

        var received = 0L;
        var buffer = new byte[64 * 1024];
        while (await stalled.ReadAsync(buffer) is var count && count > 0 && !Encoding.ASCII.GetString(buffer, 0, count)
            .Contains("event: exited", StringComparison.Ordinal))
        {
            received += count;
        }

        Assert.True(received > Count, $"{received}");
        Assert.Equal(0, (await waiting.WaitAsync()).ExitCode);
        Assert.Equal(HashOf(Count), await HashAsync(waiting));
    }

    [Fact]
    public async Task Two_hundred_readers_of_one_process_each_get_all_of_it()
    {
        var process = await _sandbox.Processes.StartAsync("cat", new ProcessOptions { HasInput = true });
        var readers = Enumerable.Range(0, 200).Select(i => HashAsync(process)).ToList();
        var sent = RandomNumberGenerator.GetBytes(256 * 1024);
        foreach (var piece in sent.Chunk(32 * 1024))
        {
            await process.WriteInputAsync(piece);
        }

        await process.CompleteInputAsync();
        var hash = Convert.ToHexString(SHA256.HashData(sent));
        Assert.All(await Task.WhenAll(readers).WaitAsync(Patience), h => Assert.Equal(hash, h));
        Assert.Equal(0, (await process.WaitAsync()).ExitCode);
    }

    [Fact]
    public async Task Input_of_any_length_arrives_as_it_was_sent()
    {
        const int Count = 64 * 1024 * 1024;
        var process = await _sandbox.Processes.StartAsync("sha256sum", new ProcessOptions { HasInput = true });
        var bytes = RandomNumberGenerator.GetBytes(Count);
        using var source = new MemoryStream(bytes);
        await process.WriteInputAsync(source);
        Assert.Equal(Count, (await process.GetAsync()).InputOffset);
        await process.CompleteInputAsync();
        var answer = await TextAsync(process);
        Assert.Equal(Convert.ToHexStringLower(SHA256.HashData(bytes)), answer[..64]);
    }

    [Fact]
    public async Task A_process_may_have_arguments_a_user_a_directory_an_environment_and_a_time()
    {
        var process = await _sandbox.Processes.StartProgramAsync(
            ["sh", "-c", "echo \"$0 $A $(id -un) $PWD\"; exec sleep 1000", "a b  c"],
            new ProcessOptions
            {
                Environment = new Dictionary<string, string> { ["A"] = "v" },
                User = "nobody",
                WorkingDirectory = "/tmp",
                Timeout = TimeSpan.FromSeconds(8),
                Tag = "mine",
            });
        Assert.Equal("a b  c v nobody /tmp\n", await TextAsync(process));
        var result = await process.WaitAsync();
        Assert.Equal((137, true, "killed"), (result.ExitCode, result.IsTimedOut, result.KillResult));
        Assert.Equal("mine", Assert.Single(await _sandbox.Processes.ListAsync(), p => p.Id == process.Id).Tag);
        await Assert.ThrowsAsync<InvalidRequestException>(() => _sandbox.Processes.StartProgramAsync(["no-such-program"]));
    }

    [Fact]
    public async Task A_terminal_has_the_size_that_it_is_given_and_the_process_sees_each_change()
    {
        // Python, because a shell takes no notice of Ctrl-C while its child ends by itself.
        const string Code = """
            exec python3 -c 'import os, signal, time
            def show(*_): print(os.get_terminal_size(0).lines, os.get_terminal_size(0).columns, os.ttyname(0), flush=True)
            signal.signal(signal.SIGWINCH, show)
            show()
            while True: time.sleep(0.1)'
            """;
        await using var terminal = await _sandbox.Processes.OpenTerminalAsync(
            Code, new ProcessOptions { Terminal = new TerminalDimensions(100, 30) });
        var text = new StringBuilder();
        var reading = Task.Run(async () =>
        {
            await foreach (var output in terminal.ReadOutputAsync())
            {
                lock (text)
                {
                    text.Append(Encoding.UTF8.GetString(output.Bytes.Span));
                }
            }
        });
        await UntilAsync(() => Has("30 100 /dev/pts/"));
        await terminal.Process.ResizeAsync(new TerminalDimensions(133, 41));
        await UntilAsync(() => Has("41 133 /dev/pts/"));
        await terminal.WriteInputAsync(new byte[] { 3 });
        await reading.WaitAsync(Patience);
        Assert.Equal(130, (await terminal.Process.WaitAsync()).ExitCode);

        Task<bool> Has(string what)
        {
            lock (text)
            {
                return Task.FromResult(text.ToString().Contains(what, StringComparison.Ordinal));
            }
        }
    }

    internal static async Task UntilAsync(Func<Task<bool>> isDone)
    {
        var start = Stopwatch.GetTimestamp();
        while (!await isDone())
        {
            Assert.True(Stopwatch.GetElapsedTime(start) < Patience, "it does not happen");
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }
    }

    /// <summary>Bytes whose place can be told: numbers of 15 digits, one a line.</summary>
    internal static string Source(int count) =>
        $"exec python3 -c \"import sys\nfor i in range(0, {count}, 65536): "
        + "sys.stdout.write(''.join('%015d\\n' % j for j in range(i, i + 65536, 16)))\"";

    internal static string HashOf(int count)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (var i = 0; i < count; i += 16)
        {
            hash.AppendData(Encoding.ASCII.GetBytes($"{i:D15}\n"));
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }

    /// <summary>The hash of all output, from the beginning to the end of the process. Nothing may be missing.</summary>
    internal static async Task<string> HashAsync(SandboxProcess process)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var next = 0L;
        await foreach (var output in process.ReadOutputAsync())
        {
            Assert.NotEqual(ProcessOutputKind.Dropped, output.Kind);
            Assert.Equal(next, output.Offset);
            hash.AppendData(output.Bytes.Span);
            next = output.EndOffset;
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }

    private static async Task<string> TextAsync(SandboxProcess process)
    {
        var text = new StringBuilder();
        await foreach (var output in process.ReadOutputAsync())
        {
            text.Append(Encoding.UTF8.GetString(output.Bytes.Span));
        }

        return text.ToString();
    }

    private static void AssertLines(ProcessOutput output)
    {
        var text = Encoding.ASCII.GetString(output.Bytes.Span);
        for (var i = (int)((16 - (output.Offset % 16)) % 16); i + 15 < text.Length; i += 16)
        {
            Assert.Equal(output.Offset + i, long.Parse(text.AsSpan(i, 15)));
        }
    }

    private async Task<NetworkStream> AskRawAsync(string path)
    {
        var socket = fixture.World.Host.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        await socket.ConnectAsync(new IPEndPoint(IPAddress.Loopback, 8000));
        var stream = new NetworkStream(socket, ownsSocket: true);
        await stream.WriteAsync(Encoding.ASCII.GetBytes($"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n\r\n"));
        await stream.ReadExactlyAsync(new byte[200]);
        return stream;
    }
}
