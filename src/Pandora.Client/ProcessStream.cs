using System.Runtime.CompilerServices;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// The events of a process over any number of connections: each byte once and in order, and a <c>dropped</c> for each that is missing.
/// </summary>
internal sealed class ProcessStream(PandoraApi api, string sandboxId, string? processId, long from, bool follow)
{
    private long _next = from;

    /// <summary>Id of the process; null until it is known.</summary>
    public string? ProcessId { get; private set; } = processId;

    /// <summary>Whether a connection broke.</summary>
    public bool WasCut { get; private set; }

    /// <summary>Reads until <c>exited</c> or <c>paused</c>, which is the last event.</summary>
    /// <param name="first">An answer that is there already; null makes the first connection, too.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    /// <exception cref="PandoraClientException">The stream cannot go on.</exception>
    public async IAsyncEnumerable<ProcessEvent> ReadAsync(
        HttpResponseMessage? first, [EnumeratorCancellation] CancellationToken cancellationToken)
    {
        var reconnection = new Reconnection(api);
        while (true)
        {
            var response = first ?? await reconnection.RepeatAsync(() => OpenAsync(cancellationToken), cancellationToken)
                .ConfigureAwait(false);
            first = null;
            PandoraClientException cause;
            var connection = await EventConnection<ProcessEvent>.OpenAsync(response, ProcessEvent.Parse, api.Time, cancellationToken)
                .ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                while (true)
                {
                    ProcessEvent? next;
                    try
                    {
                        next = await connection.ReadAsync(cancellationToken).ConfigureAwait(false);
                    }
                    catch (UnexpectedAnswerException e)
                    {
                        cause = e;
                        break;
                    }

                    if (next is null)
                    {
                        cause = new UnexpectedAnswerException("the stream of output was cut", new EndOfStreamException());
                        break;
                    }

                    if (next.Problem is { } problem)
                    {
                        cause = PandoraApiException.From(problem, retryAfter: null);
                        break;
                    }

                    // An answer that ends after its beginning each time must not be asked for without end.
                    if (next.Name != ProcessEvents.Started)
                    {
                        reconnection.Worked();
                    }

                    foreach (var one in Take(next))
                    {
                        yield return one;
                    }

                    if (next.Name is ProcessEvents.Exited or ProcessEvents.Paused)
                    {
                        yield break;
                    }
                }
            }

            WasCut = true;
            if (ProcessId is null)
            {
                throw cause;
            }

            await reconnection.WaitAsync(cause, cancellationToken).ConfigureAwait(false);
        }
    }

    private Task<HttpResponseMessage> OpenAsync(CancellationToken cancellationToken) =>
        api.OpenOutputAsync(sandboxId, ProcessId!, _next, follow, cancellationToken);

    private IEnumerable<ProcessEvent> Take(ProcessEvent next)
    {
        switch (next.Name)
        {
            case ProcessEvents.Started:
                ProcessId ??= next.ProcessId;
                _next = _next < 0 ? next.Offset : _next;
                yield return next;
                break;
            case ProcessEvents.Stdout or ProcessEvents.Stderr:
                if (Missing(next.Offset) is { } missing)
                {
                    yield return missing;
                }

                // What came before the connection broke may come again.
                var known = (int)Math.Min(_next - next.Offset, next.Bytes.Length);
                if (known < next.Bytes.Length)
                {
                    var fresh = next with { Offset = next.Offset + known, Bytes = next.Bytes[known..] };
                    _next = fresh.Offset + fresh.Bytes.Length;
                    yield return fresh;
                }

                break;
            case ProcessEvents.Dropped or ProcessEvents.Exited or ProcessEvents.Paused:
                if (Missing(next.Name == ProcessEvents.Exited ? next.Offset : next.EndOffset) is { } lost)
                {
                    yield return lost;
                }

                if (next.Name != ProcessEvents.Dropped)
                {
                    yield return next;
                }

                break;
        }
    }

    // From a beginning that is not known yet nothing is missing.
    private ProcessEvent? Missing(long until)
    {
        var begin = _next;
        _next = Math.Max(_next, until);
        return begin >= 0 && begin < until ? new(ProcessEvents.Dropped) { Offset = begin, EndOffset = until } : null;
    }
}
