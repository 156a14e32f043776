using System.Security.Cryptography;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Engine.Guests.Agent;

/// <summary>A guest whose agent runs its processes.</summary>
internal sealed class AgentGuest(AgentConnection connection, ExecWay way, TimeProvider time) : IGuest
{
    private static readonly TimeSpan ListLimit = TimeSpan.FromSeconds(10);
    private const int MostListed = 10_000, MostListedBytes = 16 * 1024 * 1024, MostKilledAtOnce = 64;

    /// <inheritdoc/>
    public ExecWay Way => way;

    /// <inheritdoc/>
    public async Task<IGuestProcess> StartAsync(ProcessSpec spec, CancellationToken cancellationToken)
    {
        var id = RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz0123456789", 16);
        var request = new StartRequest
        {
            Id = id,
            Tag = spec.Tag,
            Code = spec.Code,
            Arguments = spec.Arguments,
            Environment = [.. spec.Environment.SelectMany(v => new[] { v.Key, v.Value })],
            Directory = spec.Directory,
            User = spec.User,
            HasInput = spec.HasInput,
            IsMerged = spec.IsMerged,
            Columns = (ushort)(spec.Terminal?.Columns ?? 0),
            Rows = (ushort)(spec.Terminal?.Rows ?? 0),
            // The server's clock ends the process; this ends it when there is no server.
            TimeLimit = spec.TimeLimit is { } limit ? (long)(limit + AgentProcess.KillLimit).TotalMilliseconds : 0,
            Policy = spec.WaitsForReader ? OutputPolicy.Wait : OutputPolicy.Keep,
            IsForeground = spec.IsForeground,
        };
        return await OpenAsync(id, ProcessMessage.Start, request.Encode(), spec.TimeLimit, cancellationToken);
    }

    /// <inheritdoc/>
    public async Task<IGuestProcess> AttachAsync(string id, long offset, CancellationToken cancellationToken) =>
        await OpenAsync(id, ProcessMessage.Attach, new AttachRequest(id, offset).Encode(), null, cancellationToken);

    /// <inheritdoc/>
    public async Task<IReadOnlyList<ProcessInfo>> ListAsync(CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(ListLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        AgentStream? stream = null;
        try
        {
            stream = await connection.OpenAsync(ProcessMessages.Encode(ProcessMessage.List, []), linked.Token);
            var parser = new MessageParser(ProcessMessages.MaxBody);
            List<ProcessInfo> processes = [];
            for (var bytes = 0L; ;)
            {
                while (parser.TryRead(out var kind, out var body))
                {
                    if (kind != ProcessMessage.Entry || processes.Count == MostListed)
                    {
                        throw new FormatException($"a list with a message {(int)kind}, or too long");
                    }

                    processes.Add(ToInfo(ProcessEntry.Decode(body.Span)));
                }

                var count = await stream.ReadAsync(parser.Room, linked.Token);
                if (count == 0)
                {
                    return processes;
                }

                parser.Received(count);
                bytes += count;
                if (bytes > MostListedBytes)
                {
                    throw new FormatException("a list that is too long");
                }
            }
        }
        catch (Exception e) when (e is IOException or FormatException
            || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new PandoraException(
                PandoraError.GuestUnreachable, $"the guest's agent did not list its processes: {e.Message}", innerException: e);
        }
        finally
        {
            stream?.Close(mustForget: false);
        }
    }

    /// <summary>Kills the commands that clients of an earlier server waited for.</summary>
    public async Task EndForegroundAsync(CancellationToken cancellationToken)
    {
        var running = (await ListAsync(cancellationToken)).Where(p => p.IsForeground && p.End is null).ToList();
        // The guest says how many there are.
        var options = new ParallelOptions { MaxDegreeOfParallelism = MostKilledAtOnce, CancellationToken = cancellationToken };
        await Parallel.ForEachAsync(running, options, async (p, stop) =>
        {
            try
            {
                await using var process = await AttachAsync(p.Id, -1, stop);
                await process.KillAsync();
            }
            catch (PandoraException)
            {
                // It has ended meanwhile, or the agent has: then it is not known what became of it, and nothing more can be done.
            }
        });
    }

    /// <inheritdoc/>
    public Task QuiesceAsync(CancellationToken cancellationToken) => connection.QuiesceAsync(cancellationToken);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => connection.DisposeAsync();

    internal static ProcessInfo ToInfo(ProcessEntry entry) => new(
        entry.Id, entry.Pid, entry.Tag, entry.Command, DateTimeOffset.UnixEpoch.AddTicks(entry.StartedAt / 100), entry.IsForeground,
        entry.End is { } end ? ToEnd(end) : null);

    internal static ProcessEnd ToEnd(EndReport report) => new(report.ExitCode)
    {
        OomLimit = report.OomLimit > 0 ? report.OomLimit : null,
        HasLeftovers = report.HasLeftovers,
        Offset = report.Offset,
    };

    private async Task<AgentProcess> OpenAsync(
        string id, ProcessMessage kind, byte[] body, TimeSpan? limit, CancellationToken cancellationToken)
    {
        AgentStream stream;
        using (var opening = limit is { } duration ? new CancellationTokenSource(duration, time) : new CancellationTokenSource())
        using (var linked = CancellationTokenSource.CreateLinkedTokenSource(opening.Token, cancellationToken))
        {
            try
            {
                stream = await connection.OpenAsync(ProcessMessages.Encode(kind, body), linked.Token);
            }
            catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
            {
                throw PandoraException.NotSent("the guest's agent did not take the command within its timeout", e);
            }
            catch (IOException e)
            {
                throw PandoraException.NotSent(e.Message, e);
            }
        }

        var process = new AgentProcess(id, stream, limit, time);
        try
        {
            await process.WaitForStartAsync(cancellationToken);
            return process;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            var stopped = await process.KillAsync();
            await process.DisposeAsync();
            throw new CommandStoppedException(stopped, cancellationToken);
        }
        catch
        {
            await process.DisposeAsync();
            throw;
        }
    }
}
