using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Api;
using Pandora.Server.Auth;
using Yarp.ReverseProxy.Forwarder;

namespace Pandora.Server.Gateway;

/// <summary>Says why a request to a preview got no answer of the program in the guest.</summary>
internal static class PreviewFailure
{
    /// <summary>The refusal for an error of the forwarder; null when the client went away.</summary>
    /// <param name="host">The preview.</param>
    /// <param name="sandboxes">The sandboxes that the client may see.</param>
    /// <param name="error">The error.</param>
    /// <param name="exception">What caused it; null when that is not known.</param>
    public static Refusal? Of(PreviewHost host, ProjectSandboxes sandboxes, ForwarderError error, Exception? exception)
    {
        switch (error)
        {
            case ForwarderError.RequestCanceled or ForwarderError.RequestBodyCanceled or ForwarderError.RequestBodyClient
                or ForwarderError.ResponseBodyCanceled or ForwarderError.ResponseBodyClient or ForwarderError.UpgradeRequestCanceled
                or ForwarderError.UpgradeRequestClient or ForwarderError.UpgradeResponseCanceled or ForwarderError.UpgradeResponseClient:
                return null;
        }

        var isTimeout = error == ForwarderError.RequestTimedOut;
        for (var cause = exception; cause is not null; cause = cause.InnerException)
        {
            switch (cause)
            {
                // The sandbox was there when the request came.
                case PandoraException { Error: PandoraError.SandboxNotFound } e:
                    return Gone(e);
                case PandoraException e:
                    return Of(host, sandboxes, e);
                // The client's own limit for a connection. The forwarder's for activity is a cancellation without such a cause.
                case TimeoutException:
                    return new Refusal(
                        ErrorCodes.PortTimeout, $"the program that listens on port {host.Port} accepted no connection within "
                            + $"{PreviewConnections.ConnectTimeout.TotalSeconds:0} s");
                case OperationCanceledException:
                    isTimeout = true;
                    break;
            }
        }

        return isTimeout
            ? new Refusal(
                ErrorCodes.PortTimeout, $"the program that listens on port {host.Port} sent and took no byte for "
                    + $"{GuestForwarder.ActivityTimeout.TotalSeconds:0} s")
            : new Refusal(
                ErrorCodes.PortBadAnswer, $"the program that listens on port {host.Port} does not speak HTTP, broke off, or sent more than "
                    + $"{PreviewConnections.MaxHeadersKib} KiB of headers");
    }

    /// <summary>The refusal for an error of the engine.</summary>
    public static Refusal Of(PreviewHost host, ProjectSandboxes sandboxes, PandoraException error)
    {
        if (error.Error == PandoraError.SandboxNotFound && sandboxes.HasEnded(host.Id))
        {
            return Gone(error);
        }

        return Problems.OfEngine.TryGetValue(error.Error, out var code)
            ? new Refusal(code, error.Message, error.Hint)
            : throw new InvalidOperationException($"the error {error.Error} has no code", error);
    }

    // The API answers with 404; of a page that was there, 410 says that it does not come back (RFC 9110, section 15.5.11).
    private static Refusal Gone(PandoraException error) => new(ErrorCodes.SandboxGone, error.Message, error.Hint);
}
