using System.Collections.Concurrent;
using System.Security.Cryptography;
using Pandora.Client;

namespace Pandora.Load;

/// <summary>One sandbox of a load, after its end.</summary>
/// <param name="Number">Its number, from 1.</param>
/// <param name="Id">Its id; null when it was never created.</param>
/// <param name="Slot">Its slot.</param>
/// <param name="AcquireMs">Time of the claim in ms, measured by the server.</param>
/// <param name="ExecMs">Times of the commands in ms, measured by the server.</param>
/// <param name="TotalMs">Time from its start to its end in ms, measured by the client.</param>
/// <param name="Error">Why it failed; null when it succeeded.</param>
public sealed record LoadedSandbox(
    int Number, string? Id, int? Slot, double? AcquireMs, IReadOnlyList<double> ExecMs, double TotalMs, string? Error);

/// <summary>
/// A load: creates sandboxes, runs commands in them and deletes them, as the plan says. It deletes all its sandboxes, also when it is
/// stopped.
/// </summary>
public sealed class LoadRun(PandoraClient pandora, string url, LoadPlan plan, TimeProvider time)
{
    private static readonly TimeSpan CreateLimit = TimeSpan.FromSeconds(630),
        DeleteLimit = TimeSpan.FromSeconds(60);
    private readonly Dictionary<string, string> _mark = new()
    {
        ["pandora-stress"] = RandomNumberGenerator.GetHexString(12, lowercase: true),
    };
    private readonly ConcurrentDictionary<string, int> _errors = new();
    private readonly ConcurrentDictionary<int, bool> _slots = new();
    private int _started;
    private int _succeeded;
    private int _failed;
    private int _cold;
    private long _startedAt;

    /// <summary>Called when a sandbox has ended, from any thread.</summary>
    public Action<LoadedSandbox>? Finished { get; init; }

    /// <summary>Awaited before each create of a closed loop; its time is not measured.</summary>
    public Func<CancellationToken, Task>? BeforeEach { get; init; }

    /// <summary>Times of claims, measured by the client.</summary>
    public Latencies AcquireAtClient { get; } = new();

    /// <summary>Times of claims, measured by the server.</summary>
    public Latencies AcquireAtServer { get; } = new();

    /// <summary>Times of first commands, measured by the client.</summary>
    public Latencies FirstExecAtClient { get; } = new();

    /// <summary>Times of first commands, measured by the server.</summary>
    public Latencies FirstExecAtServer { get; } = new();

    /// <summary>Times of later commands, measured by the client.</summary>
    public Latencies ExecAtClient { get; } = new();

    /// <summary>Times of later commands, measured by the server.</summary>
    public Latencies ExecAtServer { get; } = new();

    /// <summary>Times of deletions, measured by the client.</summary>
    public Latencies DeleteAtClient { get; } = new();

    /// <summary>Times of deletions, measured by the server.</summary>
    public Latencies DeleteAtServer { get; } = new();

    /// <summary>Times of whole sandboxes, from start to end.</summary>
    public Latencies Total { get; } = new();

    /// <summary>Sandboxes started, succeeded and failed so far, and the time since the beginning.</summary>
    public (int Started, int Succeeded, int Failed, TimeSpan Elapsed) Progress =>
        (_started, _succeeded, _failed, _startedAt == 0 ? TimeSpan.Zero : time.GetElapsedTime(_startedAt));

    /// <summary>
    /// Runs the load to its end, or until <paramref name="cancellationToken"/> is cancelled. In both cases all its sandboxes are deleted,
    /// and the report covers what was measured.
    /// </summary>
    /// <exception cref="ServerUnreachableException">No server answers.</exception>
    public async Task<LoadReport> RunAsync(CancellationToken cancellationToken)
    {
        var health = await pandora.GetHealthAsync(cancellationToken);
        var leaks = new LeakCheck(pandora, _mark, time);
        await leaks.BeginAsync(cancellationToken);
        var at = time.GetUtcNow();
        _startedAt = time.GetTimestamp();
        var isInterrupted = false;
        try
        {
            if (plan.Rate is { } rate)
            {
                await OpenAsync(rate, cancellationToken);
            }
            else if (plan.Burst is { } burst)
            {
                await BurstsAsync(burst, cancellationToken);
            }
            else
            {
                await ClosedAsync(cancellationToken);
            }
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            isInterrupted = true;
        }

        var wall = time.GetElapsedTime(_startedAt);
        await SweepAsync();
        return new LoadReport
        {
            At = at,
            Machine = Machine.Describe(),
            Server = new LoadServer(url, health.Version, health.Vmm, health.PoolSize, health.MaxSandboxes),
            Plan = plan,
            WallSeconds = Math.Round(wall.TotalSeconds, 3),
            IsInterrupted = isInterrupted || cancellationToken.IsCancellationRequested,
            Succeeded = _succeeded,
            Failed = _failed,
            Cold = _cold,
            Execs = FirstExecAtClient.Count + ExecAtClient.Count,
            SlotsUsed = _slots.Count,
            Errors = new SortedDictionary<string, int>(_errors),
            Latency = new Dictionary<string, TwoSides>
            {
                ["acquire"] = new(AcquireAtClient.Summarize(), AcquireAtServer.Summarize()),
                ["first_exec"] = new(FirstExecAtClient.Summarize(), FirstExecAtServer.Summarize()),
                ["exec"] = new(ExecAtClient.Summarize(), ExecAtServer.Summarize()),
                ["delete"] = new(DeleteAtClient.Summarize(), DeleteAtServer.Summarize()),
                ["total"] = new(Total.Summarize(), null),
            },
            Leaks = await leaks.EndAsync(CancellationToken.None),
        };
    }

    private bool IsOver => plan.Duration is { } seconds && time.GetElapsedTime(_startedAt).TotalSeconds >= seconds;

    private Task ClosedAsync(CancellationToken cancellationToken)
    {
        var next = 0;
        return Task.WhenAll(Enumerable.Range(0, plan.Parallel).Select(async _ =>
        {
            while (!cancellationToken.IsCancellationRequested && !IsOver)
            {
                var number = Interlocked.Increment(ref next);
                if (plan.Duration is null && number > plan.Requests)
                {
                    return;
                }

                await (BeforeEach?.Invoke(cancellationToken) ?? Task.CompletedTask);
                await OneAsync(number, time.GetTimestamp(), cancellationToken);
            }
        }));
    }

    private async Task BurstsAsync(int size, CancellationToken cancellationToken)
    {
        for (
            var number = 0;
            !cancellationToken.IsCancellationRequested && !IsOver && (plan.Duration is not null || number < plan.Requests);)
        {
            var count = plan.Duration is null ? Math.Min(size, plan.Requests - number) : size;
            var start = time.GetTimestamp();
            await Task.WhenAll(Enumerable.Range(number + 1, count).Select(n => OneAsync(n, start, cancellationToken)));
            number += count;
        }
    }

    private async Task OpenAsync(double rate, CancellationToken cancellationToken)
    {
        var size = plan.Burst ?? 1;
        var running = new List<Task>();
        for (var number = 0; number < plan.Expected; number += size)
        {
            var due = _startedAt + (long)(number / rate * time.TimestampFrequency);
            var wait = time.GetElapsedTime(time.GetTimestamp(), due);
            if (wait > TimeSpan.Zero)
            {
                await Task.Delay(wait, time, cancellationToken).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            }

            if (cancellationToken.IsCancellationRequested)
            {
                break;
            }

            running.RemoveAll(t => t.IsCompleted);
            running.AddRange(
                Enumerable.Range(number + 1, Math.Min(size, plan.Expected.Value - number)).Select(n => OneAsync(n, due, cancellationToken))
            );
        }

        await Task.WhenAll(running);
    }

    // Never throws: failures are counted.
    private async Task OneAsync(int number, long due, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref _started);
        Sandbox? sandbox = null;
        var operation = "create";
        var execs = new List<double>();
        string? error = null;
        try
        {
            using var clock = new CancellationTokenSource(CreateLimit, time);
            using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, clock.Token);
            var options = new CreateSandboxOptions
            {
                IdleTimeout = TimeSpan.FromSeconds(600),
                Template = plan.Template,
                Metadata = _mark,
                KeepAlive = false,
            };
            sandbox = await pandora.CreateAsync(options, limit.Token);
            AcquireAtClient.Add(time.GetElapsedTime(due));
            AcquireAtServer.Add(sandbox.AcquireTime!.Value);
            _slots[sandbox.Wire!.SlotId] = true;
            if (sandbox.IsWarm == false)
            {
                Interlocked.Increment(ref _cold);
            }

            operation = "exec";
            for (var i = 0; i < plan.ExecsPer; i++)
            {
                var start = time.GetTimestamp();
                var result = await ExecAsync(sandbox, cancellationToken);
                (i == 0 ? FirstExecAtClient : ExecAtClient).Add(time.GetElapsedTime(start));
                (i == 0 ? FirstExecAtServer : ExecAtServer).Add(result.Duration);
                execs.Add(result.Duration.TotalMilliseconds);
                if (result.ExitCode != 0)
                {
                    error = Count("exec", "exit_code", $"exit code {result.ExitCode}");
                }
            }
        }
        catch (Exception e) when (Classify(e, cancellationToken) is { } code)
        {
            error = Count(operation, code, e.Message);
            if (operation == "create" && code != "interrupted")
            {
                // A claim that failed still counts towards the waiting time.
                AcquireAtClient.Add(time.GetElapsedTime(due));
            }
        }

        if (sandbox is not null)
        {
            error = await DeleteAsync(sandbox) ?? error;
        }

        var total = time.GetElapsedTime(due);
        Interlocked.Increment(ref error is null ? ref _succeeded : ref _failed);
        if (error is null)
        {
            Total.Add(total);
        }

        Finished?.Invoke(
            new LoadedSandbox(
                number, sandbox?.Id, sandbox?.Wire?.SlotId, sandbox?.AcquireTime?.TotalMilliseconds, execs, total.TotalMilliseconds, error)
        );
    }

    private async Task<ExecResult> ExecAsync(Sandbox sandbox, CancellationToken cancellationToken)
    {
        using var clock = new CancellationTokenSource(TimeSpan.FromSeconds(plan.ExecTimeout + 30), time);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, clock.Token);
        return await sandbox.ExecAsync(
            plan.Code, new ExecOptions { Timeout = TimeSpan.FromSeconds(plan.ExecTimeout) }, limit.Token);
    }

    private async Task<string?> DeleteAsync(Sandbox sandbox)
    {
        using var limit = new CancellationTokenSource(DeleteLimit, TimeProvider.System);
        try
        {
            var start = time.GetTimestamp();
            var atServer = await pandora.DeleteAsync(sandbox.Id, limit.Token);
            DeleteAtClient.Add(time.GetElapsedTime(start));
            if (atServer is { } elapsed)
            {
                DeleteAtServer.Add(elapsed);
            }

            return null;
        }
        catch (Exception e) when (Classify(e, CancellationToken.None) is { } code)
        {
            return Count("delete", code, e.Message);
        }
    }

    // Deletes sandboxes whose create was never answered: the server may have created them.
    private async Task SweepAsync()
    {
        using var limit = new CancellationTokenSource(DeleteLimit, TimeProvider.System);
        async Task TryAsync(Func<Task> run)
        {
            try
            {
                await run();
            }
            catch (Exception e) when (Classify(e, CancellationToken.None) is not null)
            {
                // The sandbox ended by itself, or the leak check reports it.
            }
        }

        await TryAsync(async () =>
        {
            foreach (var sandbox in await pandora.ListAsync(_mark, limit.Token))
            {
                await TryAsync(() => pandora.DeleteAsync(sandbox.Id, limit.Token));
            }
        });
    }

    private string Count(string operation, string code, string message)
    {
        _errors.AddOrUpdate($"{operation}.{code}", 1, (_, n) => n + 1);
        return $"{operation}: {message}";
    }

    // The code of a failure; null for a defect of this program.
    private static string? Classify(Exception exception, CancellationToken cancellationToken) => exception switch
    {
        PandoraApiException e => e.Code ?? $"http_{e.Status}",
        ServerUnreachableException => "unreachable",
        OperationCanceledException => cancellationToken.IsCancellationRequested ? "interrupted" : "no_answer",
        UnexpectedAnswerException => "connection",
        _ => null,
    };
}
