using System.Runtime.InteropServices;
using Microsoft.Extensions.Time.Testing;
using Pandora.Cli.Sessions;

namespace Pandora.Tests.Cli;

public sealed class InterruptionTests
{
    private readonly List<string> _sent = [], _said = [];
    private readonly List<int> _left = [];
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void Before_the_command_has_started_the_request_ends()
    {
        using var interruption = Create();
        interruption.Receive(PosixSignal.SIGINT);
        Assert.True(interruption.Leaving.IsCancellationRequested);
        Assert.Empty(_left);
        interruption.Receive(PosixSignal.SIGINT);
        Assert.Equal([130], _left);
    }

    [Fact]
    public async Task Then_it_is_SIGINT_SIGKILL_and_the_end_of_the_program()
    {
        using var interruption = Create();
        interruption.Attach(SendAsync);
        interruption.Receive(PosixSignal.SIGINT);
        await CliProcess.UntilAsync(() => _said.Count == 1);
        Assert.False(interruption.Leaving.IsCancellationRequested);
        interruption.Receive(PosixSignal.SIGINT);
        await CliProcess.UntilAsync(() => _said.Count == 2);
        Assert.Equal(["INT", "KILL"], _sent);
        Assert.Equal("KILL", interruption.Sent);
        Assert.Empty(_left);
        _time.Advance(TimeSpan.FromSeconds(9));
        Assert.False(interruption.Leaving.IsCancellationRequested);
        _time.Advance(TimeSpan.FromSeconds(1));
        Assert.True(interruption.Leaving.IsCancellationRequested);
        interruption.Receive(PosixSignal.SIGINT);
        Assert.Equal([130], _left);
    }

    [Theory]
    [InlineData(PosixSignal.SIGTERM, 143)]
    [InlineData(PosixSignal.SIGHUP, 129)]
    public async Task A_signal_that_ends_the_program_kills_the_command(PosixSignal signal, int exitCode)
    {
        using var interruption = Create();
        interruption.Attach(SendAsync);
        interruption.Receive(signal);
        await CliProcess.UntilAsync(() => _said.Count == 1);
        Assert.Equal(["KILL"], _sent);
        Assert.Equal(exitCode, interruption.ExitCode);
    }

    [Fact]
    public async Task A_call_whose_result_must_not_be_lost_has_two_more_seconds()
    {
        using var interruption = Create();
        var call = new TaskCompletionSource<int>();
        var kept = interruption.FinishAsync(limit => call.Task.WaitAsync(limit));
        interruption.Receive(PosixSignal.SIGINT);
        call.SetResult(7);
        Assert.Equal(7, await kept);
        var lost = interruption.FinishAsync(limit => new TaskCompletionSource<int>().Task.WaitAsync(limit));
        _time.Advance(TimeSpan.FromSeconds(2));
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => lost);
    }

    private Interruption Create() => new(_left.Add, Say, _time);

    private void Say(string words)
    {
        lock (_said)
        {
            _said.Add(words);
        }
    }

    private Task SendAsync(string signal, CancellationToken cancellationToken)
    {
        _sent.Add(signal);
        return Task.CompletedTask;
    }
}
