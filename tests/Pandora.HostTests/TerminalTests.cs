using System.Diagnostics;
using System.Text;
using Pandora.Client;

namespace Pandora.HostTests;

/// <summary>
/// Programs in a terminal, used as a person uses them. What a person would see is the screen that tmux, in the same guest, makes of the
/// bytes that the client has received.
/// </summary>
public sealed class TerminalTests(ServerFixture fixture) : IClassFixture<ServerFixture>, IAsyncLifetime
{
    private const int Columns = 80, Rows = 24;
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(180);
    private readonly MemoryStream _received = new();
    private Sandbox _sandbox = null!;
    private SandboxTerminal _terminal = null!;
    private Task _reading = Task.CompletedTask;

    public async ValueTask InitializeAsync() =>
        _sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    public async ValueTask DisposeAsync()
    {
        if (_terminal is not null)
        {
            await _terminal.DisposeAsync();
        }

        await _sandbox.DisposeAsync();
        _received.Dispose();
    }

    [Fact]
    public async Task An_editor_shows_and_saves_what_is_typed()
    {
        await OpenAsync("vi /tmp/letter");
        await SeesAsync(s => s[1] == "~" && s[22] == "~");
        await TypeAsync("iDear all,\r\rgood bye\e");
        await SeesAsync(s => s is ["Dear all,", "", "good bye", "~", ..] && s[22] == "~");
        await TypeAsync("ggdd");
        await SeesAsync(s => s is ["", "good bye", "~", ..]);
        await TypeAsync(":wq\r");
        await EndsAsync(0);
        Assert.Equal("\ngood bye\n", (await _sandbox.ExecAsync("cat /tmp/letter")).Stdout);
    }

    [Fact]
    public async Task A_pager_turns_pages()
    {
        await OpenAsync("seq 100 | less");
        await SeesAsync(s => s[..23].SequenceEqual(Enumerable.Range(1, 23).Select(i => $"{i}")) && s[23] == ":");
        await TypeAsync(" ");
        await SeesAsync(s => s[..23].SequenceEqual(Enumerable.Range(24, 23).Select(i => $"{i}")));
        await TypeAsync("/77\r");
        await SeesAsync(s => s[0] == "77");
        await TypeAsync("q");
        await EndsAsync(0);
    }

    [Fact]
    public async Task A_program_that_fills_the_screen_again_and_again_is_seen_and_left()
    {
        await OpenAsync("top -d 0.5");
        await SeesAsync(s => s[0].StartsWith("top - ", StringComparison.Ordinal)
            && s.Any(l => l.Contains("PID USER", StringComparison.Ordinal)) && s.Any(l => l.EndsWith(" top", StringComparison.Ordinal)));
        await TypeAsync("q");
        await EndsAsync(0);
    }

    [Fact]
    public async Task An_interpreter_answers_line_by_line()
    {
        await OpenAsync("python3 -qi");
        await SeesAsync(s => s[0] == ">>>");
        await TypeAsync("6 * 7\r");
        await SeesAsync(s => s is [">>> 6 * 7", "42", ">>>", ..]);
        await TypeAsync("input('name? ')\rBob\x7f\x7ft\r");
        await SeesAsync(s => s[3] == "name? Bt" && s[4] == "'Bt'");
        await TypeAsync("\x04");
        await EndsAsync(0);
    }

    [Fact]
    public async Task Jobs_are_stopped_continued_and_interrupted()
    {
        await OpenAsync("PS1='$ ' bash --norc --noprofile -i");
        await SeesAsync(s => s[0] == "$");
        await TypeAsync("sleep 1000\r");
        await SeesAsync(s => s[0] == "$ sleep 1000");
        await TypeAsync("\x1a");
        await SeesAsync(s => s.Any(l => l.StartsWith("[1]+  Stopped", StringComparison.Ordinal)));
        await TypeAsync("bg\rjobs\r");
        await SeesAsync(s => s.Any(l => l.StartsWith("[1]+  Running", StringComparison.Ordinal)));
        await TypeAsync("fg\r");
        await SeesAsync(s => s.Count(l => l == "sleep 1000") == 1);
        await TypeAsync("\x03");
        await TypeAsync("echo code $?\r");
        await SeesAsync(s => s.Contains("code 130"));
        await TypeAsync("exit 5\r");
        await EndsAsync(5);
    }

    [Fact]
    public async Task A_terminal_in_the_terminal_and_another_user_work()
    {
        await OpenAsync("tmux -f /dev/null new-session 'PS1=\"$ \" bash --norc --noprofile'");
        await SeesAsync(s => s[0] == "$" && s[23].StartsWith("[0]", StringComparison.Ordinal));
        await TypeAsync("sudo -u nobody id -un; tty\r");
        await SeesAsync(s => s[1] == "nobody" && s[2].StartsWith("/dev/pts/", StringComparison.Ordinal));
        await TypeAsync("\x02\"");
        await SeesAsync(s => s[11].StartsWith("───", StringComparison.Ordinal));
        await TypeAsync("exit\r");
        await SeesAsync(s => s.All(l => !l.StartsWith("───", StringComparison.Ordinal)));
        await TypeAsync("exit\r");
        await EndsAsync(0);
    }

    private async Task OpenAsync(string code)
    {
        var options = new ProcessOptions { Terminal = new TerminalDimensions(Columns, Rows), Timeout = TimeSpan.FromMinutes(5) };
        _terminal = await _sandbox.Processes.OpenTerminalAsync(code, options);
        _reading = Task.Run(async () =>
        {
            await foreach (var output in _terminal.ReadOutputAsync())
            {
                lock (_received)
                {
                    _received.Write(output.Bytes.Span);
                }
            }
        });
    }

    private Task TypeAsync(string keys) => _terminal.WriteInputAsync(Encoding.UTF8.GetBytes(keys));

    private async Task EndsAsync(int exitCode)
    {
        await _reading.WaitAsync(Patience);
        Assert.Equal(exitCode, (await _terminal.Process.WaitAsync()).ExitCode);
    }

    private async Task SeesAsync(Func<string[], bool> isRight)
    {
        string[] screen = [];
        for (var start = Stopwatch.GetTimestamp(); Stopwatch.GetElapsedTime(start) < Patience;)
        {
            if (isRight(screen = await ScreenAsync()))
            {
                return;
            }
        }

        Assert.Fail($"the screen is:\n{string.Join('\n', screen)}");
    }

    // The session ends with the last line that tmux writes of it, so that the capture is complete.
    private async Task<string[]> ScreenAsync()
    {
        string text;
        lock (_received)
        {
            text = Convert.ToBase64String(_received.ToArray());
        }

        const string Show = "base64 -d > /tmp/received; T='tmux -L screen -f /dev/null'; "
            + "$T new-session -d -x 80 -y 24 'stty raw -echo; cat /tmp/received; $T wait-for -S shown; exec sleep 60'; "
            + "TMUX= $T set -g status off; $T wait-for shown; $T capture-pane -p; $T kill-server";
        var screen = await _sandbox.ExecAsync($"export T; {Show}", new ExecOptions { Stdin = text, Timeout = Patience });
        Assert.Equal((0, ""), (screen.ExitCode, screen.Stderr));
        return [.. screen.Stdout.Split('\n')[..Rows].Select(l => l.TrimEnd())];
    }
}
