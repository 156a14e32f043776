using System.Runtime.CompilerServices;
using System.Text.Json;
using Pandora.Contracts;

namespace Pandora.Client;

public partial class SandboxFiles
{
    /// <summary>
    /// Watches a directory until the enumeration ends, or the directory is gone. The first event is <see cref="FileEvents.Started"/>. After
    /// a broken connection the watch is made again, for <see cref="PandoraClientOptions.MaxReconnectTime"/>, and
    /// <see cref="FileEvents.Lost"/> says that events may be missing: list the files again.
    /// </summary>
    /// <param name="path">The directory.</param>
    /// <param name="recursive">Whether the directories in it are watched, too.</param>
    /// <param name="user">User whose rights apply; null is root.</param>
    /// <param name="cancellationToken">Ends the watch.</param>
    /// <exception cref="PandoraApiException">The guest refused: <c>file_not_found</c>, <c>file_access_denied</c>,
    /// <c>file_state</c>.</exception>
    /// <exception cref="PandoraClientException">The watch cannot go on.</exception>
    public virtual async IAsyncEnumerable<SandboxFileEvent> WatchAsync(
        string path, bool recursive = false, string? user = null, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        var reconnection = new Reconnection(Api);
        var hasStarted = false;
        while (true)
        {
            // A first request that fails is the caller's to know; a later one may come while the server starts again.
            Task<HttpResponseMessage> OpenAsync() => Api.OpenWatchAsync(_sandboxId, path, user, recursive, cancellationToken);
            var response = await (hasStarted ? reconnection.RepeatAsync(OpenAsync, cancellationToken) : OpenAsync()).ConfigureAwait(false);
            PandoraClientException? cause = null;
            var connection = await EventConnection<WatchEvent>.OpenAsync(response, WatchEvent.Parse, Api.Time, cancellationToken)
                .ConfigureAwait(false);
            await using (connection.ConfigureAwait(false))
            {
                while (cause is null)
                {
                    WatchEvent? next = null;
                    try
                    {
                        next = await connection.ReadAsync(cancellationToken).ConfigureAwait(false);
                        cause = next is null
                            ? new UnexpectedAnswerException("the stream of events was cut", new EndOfStreamException())
                            : next.Problem is { } problem ? PandoraApiException.From(problem, retryAfter: null) : null;
                    }
                    catch (UnexpectedAnswerException e)
                    {
                        cause = e;
                    }

                    if (cause is not null || next!.Change is null)
                    {
                        continue;
                    }

                    if (next.Name != FileEvents.Started)
                    {
                        reconnection.Worked();
                    }

                    yield return next.ToPublic(isAgain: hasStarted);
                    hasStarted = true;
                    if (next.Name == FileEvents.Gone)
                    {
                        yield break;
                    }
                }
            }

            await reconnection.WaitAsync(cause, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>An event of a watch as it is on the wire.</summary>
    private sealed record WatchEvent(string Name, FileChange? Change = null, ApiProblem? Problem = null)
    {
        public static WatchEvent Parse(string name, ReadOnlySpan<byte> data) => name switch
        {
            FileEvents.Error => new(name, Problem: JsonSerializer.Deserialize(data, PandoraJson.Default.ApiProblem) ?? throw NoData()),
            FileEvents.Started or FileEvents.Created or FileEvents.Modified or FileEvents.Attributes or FileEvents.Deleted
                or FileEvents.Moved or FileEvents.Lost or FileEvents.Gone =>
                new(name, JsonSerializer.Deserialize(data, PandoraJson.Default.FileChange) ?? throw NoData()),
            // A heartbeat, or an event of a later server.
            _ => new(name),
        };

        // What happened between two connections is not known.
        public SandboxFileEvent ToPublic(bool isAgain) => isAgain && Name == FileEvents.Started
            ? new(FileEvents.Lost)
            : new(Name, Change!.Path, Change.Target, Change.IsDirectory == true);

        private static JsonException NoData() => new("an event has no data");
    }
}
