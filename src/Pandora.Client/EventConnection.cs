using System.Net.ServerSentEvents;
using System.Text.Json;

namespace Pandora.Client;

/// <summary>The events of one answer, until it ends or breaks.</summary>
/// <typeparam name="T">What an event is read into.</typeparam>
internal sealed class EventConnection<T> : IAsyncDisposable
    where T : class
{
    // A server writes a heartbeat after 15 s of silence.
    private static readonly TimeSpan MaxSilence = TimeSpan.FromSeconds(45);
    private readonly HttpResponseMessage _response;
    private readonly CancellationTokenSource _silent;
    private readonly ITimer _timer;
    private readonly IAsyncEnumerator<SseItem<T>> _events;

    private EventConnection(
        HttpResponseMessage response, Stream stream, SseItemParser<T> parse, TimeProvider time, CancellationToken cancellationToken)
    {
        _response = response;
        _silent = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        _timer = time.CreateTimer(_ => _silent.Cancel(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        _events = SseParser.Create(stream, parse).EnumerateAsync(_silent.Token).GetAsyncEnumerator(CancellationToken.None);
    }

    /// <summary>Begins to read an answer, and owns it.</summary>
    /// <param name="response">The answer.</param>
    /// <param name="parse">Reads the data of one event.</param>
    /// <param name="time">The clock of its silence.</param>
    /// <param name="cancellationToken">Ends the reading.</param>
    public static async Task<EventConnection<T>> OpenAsync(
        HttpResponseMessage response, SseItemParser<T> parse, TimeProvider time, CancellationToken cancellationToken)
    {
        try
        {
            var stream = await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false);
            return PandoraApi.IsEventStream(response)
                ? new EventConnection<T>(response, stream, parse, time, cancellationToken)
                : throw PandoraApi.NotUnderstood("it is no stream of events", new JsonException());
        }
        catch
        {
            response.Dispose();
            throw;
        }
    }

    /// <summary>The next event; null where the stream ends.</summary>
    /// <exception cref="UnexpectedAnswerException">The connection broke, or an event is not understood.</exception>
    public async Task<T?> ReadAsync(CancellationToken cancellationToken)
    {
        // Only while it reads: the program may take its time with what it has.
        _timer.Change(MaxSilence, Timeout.InfiniteTimeSpan);
        try
        {
            return await _events.MoveNextAsync().ConfigureAwait(false) ? _events.Current.Data : null;
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UnexpectedAnswerException($"the server was silent for {MaxSilence.TotalSeconds:0} s", e);
        }
        catch (Exception e) when (e is JsonException or FormatException)
        {
            throw PandoraApi.NotUnderstood(e.Message, new JsonException(e.Message, e));
        }
        catch (Exception e) when (e is IOException or HttpRequestException)
        {
            throw new UnexpectedAnswerException($"the connection to the server broke: {e.Message}", e);
        }
        finally
        {
            _timer.Change(Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _timer.DisposeAsync().ConfigureAwait(false);
        _response.Dispose();
        try
        {
            await _events.DisposeAsync().ConfigureAwait(false);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or ObjectDisposedException)
        {
            // The end of a connection that is given up.
        }

        _silent.Dispose();
    }
}
