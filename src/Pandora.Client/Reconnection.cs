using System.Net;
using System.Runtime.ExceptionServices;
using System.Text.Json;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// When a broken connection is made again, and when not any more: <see cref="PandoraClientOptions.MaxReconnectTime"/> after it broke.
/// </summary>
internal sealed class Reconnection(PandoraApi api)
{
    private static readonly TimeSpan
        MinDelay = TimeSpan.FromMilliseconds(20), MaxDelay = TimeSpan.FromSeconds(2), MaxRetryAfter = TimeSpan.FromSeconds(5),
        Lasting = TimeSpan.FromSeconds(10);

    private TimeSpan _delay = MinDelay;
    private long? _broken;
    private long _begun = api.Time.GetTimestamp();

    /// <summary>The connection did its work: the next loss is a new one.</summary>
    public void Worked() => (_broken, _delay) = (null, MinDelay);

    /// <summary>Waits before the next try.</summary>
    /// <param name="cause">Why the last one failed. It is thrown when a new try does not help, or when the time is up.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task WaitAsync(Exception cause, CancellationToken cancellationToken)
    {
        // Something on the way may end quiet connections.
        if (api.Time.GetElapsedTime(_begun) > Lasting)
        {
            Worked();
        }

        _broken ??= api.Time.GetTimestamp();
        var delay = (cause as PandoraApiException)?.RetryAfter is { } asked && asked > _delay ? asked : _delay;
        delay = (delay < MaxRetryAfter ? delay : MaxRetryAfter) * (1 + (Random.Shared.NextDouble() / 10));
        if (!Helps(cause) || api.Time.GetElapsedTime(_broken.Value) + delay > api.MaxReconnectTime)
        {
            ExceptionDispatchInfo.Throw(cause);
        }

        await Task.Delay(delay, api.Time, cancellationToken).ConfigureAwait(false);
        _delay = _delay * 2 < MaxDelay ? _delay * 2 : MaxDelay;
        _begun = api.Time.GetTimestamp();
    }

    /// <summary>Repeats a call that may be repeated, until it succeeds.</summary>
    public async Task<T> RepeatAsync<T>(Func<Task<T>> call, CancellationToken cancellationToken)
    {
        while (true)
        {
            PandoraClientException cause;
            try
            {
                return await call().ConfigureAwait(false);
            }
            catch (PandoraClientException e)
            {
                cause = e;
            }

            await WaitAsync(cause, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <summary>Whether a failure may pass: no server answers, the connection broke, a server starts or stops, or a proxy has no
    /// server.</summary>
    public static bool Helps(Exception cause) => cause switch
    {
        ServerUnreachableException => true,
        UnexpectedAnswerException => cause.InnerException is not JsonException,
        PandoraApiException { Code: null } e => e.Status
            is (int)HttpStatusCode.BadGateway or (int)HttpStatusCode.ServiceUnavailable or (int)HttpStatusCode.GatewayTimeout
                or (int)HttpStatusCode.TooManyRequests,
        PandoraApiException e => e.MayPass || e.Code == ErrorCodes.ShuttingDown.Code,
        _ => false,
    };
}
