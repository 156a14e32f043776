using System.Collections.Concurrent;
using System.Diagnostics;
using System.Text;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;

namespace Pandora.HostTests.Chaos;

/// <summary>Clients that use the server during the faults and record violations: answers that a later observation contradicts.</summary>
internal sealed class Clients(ServerProcess server, Answers answers, int seed, TimeProvider time)
{
    // The longest times that the server's settings allow, and a reserve for a busy machine.
    private static readonly TimeSpan CreateLimit = TimeSpan.FromSeconds(90),
        ExecLimit = TimeSpan.FromSeconds(90),
        DeleteLimit = TimeSpan.FromSeconds(90),
        StreamLimit = TimeSpan.FromSeconds(150);

    // Lines of a thousand bytes for three seconds.
    private const string Lines = "exec 9<> <(:); for ((i = 0; i < 10; i++)); do printf '%0999d\\n' $i; read -t 0.3 -u 9; done; exit 0";
    private static readonly byte[] WrittenLines = Encoding.ASCII.GetBytes(
        string.Concat(Enumerable.Range(0, 10).Select(i => $"{i:D999}\n")));
    private readonly ConcurrentDictionary<string, int> _outcomes = new();
    private readonly ConcurrentQueue<string> _violations = new();
    private int _lastToken;

    /// <summary>The number of requests by operation and outcome.</summary>
    public IReadOnlyDictionary<string, int> Outcomes => _outcomes;

    /// <summary>What the server did wrong, a sentence each.</summary>
    public IReadOnlyCollection<string> Violations => _violations;

    /// <summary>Runs one client until <paramref name="stop"/> is cancelled.</summary>
    public async Task RunAsync(int number, CancellationToken stop)
    {
        var random = new Random(HashCode.Combine(seed, number));
        while (!stop.IsCancellationRequested)
        {
            var key = $"chaos-{number}-{random.Next()}";
            // A create without an answer is sent again with the same key, and must not make a second sandbox.
            Sandbox? sandbox = null;
            for (var attempt = 0; sandbox is null && attempt < 20 && !stop.IsCancellationRequested; attempt++)
            {
                sandbox = await TryAsync(
                    "create",
                    CreateLimit,
                    token =>
                        server.Pandora.CreateAsync(
                            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(10), IdempotencyKey = key }, token));
                if (sandbox is null)
                {
                    await Task.Delay(TimeSpan.FromMilliseconds(300), time, CancellationToken.None);
                }
            }

            if (sandbox is not null)
            {
                await UseAsync(sandbox, random, stop);
            }
        }
    }

    /// <summary>Checks the list of sandboxes: no two may share an id, a slot or an address.</summary>
    public async Task CheckUniqueAsync()
    {
        var list = await TryAsync("list", DeleteLimit, token => server.Pandora.ListAsync(null, token));
        foreach (
            var (kind, values) in list is null
                ? []
                : new (string, IEnumerable<string>)[]
                {
                    ("id", list.Select(s => s.Id)),
                    ("slot", list.Select(s => $"{s.SlotId}")),
                    ("address", list.Select(s => s.GuestAddress)),
                })
        {
            foreach (var twice in values.GroupBy(v => v).Where(g => g.Count() > 1))
            {
                _violations.Enqueue($"two sandboxes share the {kind} {twice.Key}");
            }
        }
    }

    private async Task UseAsync(Sandbox sandbox, Random random, CancellationToken stop)
    {
        // What each command's answer says: that it ran, that it did not, or nothing certain (null).
        var tokens = new Dictionary<string, bool?>();
        for (var i = random.Next(1, 6); i > 0 && !stop.IsCancellationRequested; i--)
        {
            var token = $"t{Interlocked.Increment(ref _lastToken)}";
            // Each command appends its token to a file: once, or not at all when no answer says that it ran.
            var code = random.Next(4) switch
            {
                0 => $"echo {token} >> /root/book; sleep 2",
                1 => $"echo {token} >> /root/book; head -c 3000000 /dev/urandom > /root/data; sync",
                _ => $"echo {token} >> /root/book",
            };
            PandoraApiException? problem = null;
            var result = await TryAsync(
                "exec",
                ExecLimit,
                t => server.Pandora.Connect(sandbox.Id).ExecAsync(code, new ExecOptions { Timeout = TimeSpan.FromSeconds(10) }, t),
                e => problem = e);
            if (result is { ExitCode: 0 })
            {
                tokens[token] = true;
            }
            else
            {
                tokens[token] = problem is not null && Answers.SaysNotStarted(problem) ? false : null;
            }

            if (problem is not null)
            {
                await CheckAsync(sandbox.Id, token, problem);
            }
        }

        if (random.Next(3) == 0)
        {
            await StreamAsync(sandbox.Id);
        }

        if (
            await TryAsync(
                "exec",
                ExecLimit,
                t =>
                    server
                        .Pandora.Connect(sandbox.Id)
                        .ExecAsync("cat /root/book", new ExecOptions { Timeout = TimeSpan.FromSeconds(10) }, t)) is
            { ExitCode: 0 } book)
        {
            var lines = book.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries);
            foreach (var (token, hasRun) in tokens)
            {
                var count = lines.Count(l => l == token);
                if (count > 1)
                {
                    _violations.Enqueue($"{token} ran {count} times in {sandbox.Id}");
                }
                else if (hasRun == true && count == 0)
                {
                    _violations.Enqueue($"{token} did not run in {sandbox.Id}, although the answer was that it ran");
                }
                else if (hasRun == false && count > 0)
                {
                    _violations.Enqueue($"{token} ran in {sandbox.Id}, although the answer was that it did not");
                }
            }

            foreach (var stranger in lines.Where(l => !tokens.ContainsKey(l)))
            {
                _violations.Enqueue($"{stranger} of another sandbox is in {sandbox.Id}");
            }
        }

        if (random.Next(5) > 0)
        {
            await TryAsync("delete", DeleteLimit, async t => await server.Pandora.DeleteAsync(sandbox.Id, t) ?? TimeSpan.Zero);
        }
    }

    // Whatever happens to the server meanwhile: each byte comes once, in its place, or the client gets an error.
    private Task<bool> StreamAsync(string id) => TryAsync("stream", StreamLimit, async token =>
    {
        var process = await server.Pandora.Connect(id).Processes.StartAsync(
            Lines, new ProcessOptions { WaitsForReader = true, KeepsAlive = true }, token);
        var next = 0;
        await foreach (var output in process.ReadOutputAsync(cancellationToken: token))
        {
            if (output.Kind != ProcessOutputKind.Stdout || output.Offset != next || output.EndOffset > WrittenLines.Length
                || !output.Bytes.Span.SequenceEqual(WrittenLines.AsSpan(next, output.Bytes.Length)))
            {
                _violations.Enqueue($"process {process.Id} of {id} wrote {output} at {next}");
            }

            next = (int)output.EndOffset;
        }

        if ((await process.GetAsync(token)).Result is { ExitCode: 0 } && next != WrittenLines.Length)
        {
            _violations.Enqueue($"process {process.Id} of {id} wrote {next} bytes of {WrittenLines.Length} and ended without an error");
        }

        return true;
    });

    // A wrong answer is a violation too.
    private async Task CheckAsync(string id, string token, PandoraApiException problem)
    {
        if (await answers.FindContradictionAsync(id, token, problem) is { } contradiction)
        {
            _violations.Enqueue(contradiction);
        }
    }

    // Never throws: a failure is an outcome or a violation.
    private async Task<T?> TryAsync<T>(
        string operation, TimeSpan limit, Func<CancellationToken, Task<T>> run, Action<PandoraApiException>? onProblem = null)
    {
        var start = Stopwatch.GetTimestamp();
        using var stop = new CancellationTokenSource(limit, TimeProvider.System);
        try
        {
            var result = await run(stop.Token);
            Count(operation, "done");
            return result;
        }
        catch (PandoraApiException e)
        {
            Count(operation, e.Code ?? $"http_{e.Status}");
            onProblem?.Invoke(e);
            if (answers.FindContradiction(e) is { } contradiction)
            {
                _violations.Enqueue($"{operation}: {contradiction}");
            }

            if (e.Code is null || e.Code == ErrorCodes.Internal.Code || e.Code == ErrorCodes.IdempotencyMismatch.Code)
            {
                _violations.Enqueue($"{operation}: {e.Message}");
            }
        }
        catch (Exception e) when (e is ServerUnreachableException or UnexpectedAnswerException)
        {
            Count(operation, "connection");
        }
        catch (OperationCanceledException)
        {
            _violations.Enqueue($"{operation} was not answered within {limit.TotalSeconds:0} s");
        }

        if (Stopwatch.GetElapsedTime(start) < TimeSpan.FromMilliseconds(100))
        {
            // Pause after a quick answer: a stopped or full server must not get a thousand requests a second.
            await Task.Delay(TimeSpan.FromMilliseconds(100), time);
        }

        return default;
    }

    private void Count(string operation, string outcome) => _outcomes.AddOrUpdate($"{operation} {outcome}", 1, (_, n) => n + 1);
}
