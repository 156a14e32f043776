using System.Net;
using Pandora.Contracts;
using Pandora.Server.Api;
using Pandora.Server.Hosting;

namespace Pandora.Server.Auth;

/// <summary>Why a request is refused.</summary>
/// <param name="Code">The code of the problem.</param>
/// <param name="Detail">What is wrong.</param>
/// <param name="Hint">Advice for the operator; null for none.</param>
internal sealed record Refusal(ErrorCode Code, string Detail, string? Hint = null)
{
    /// <summary>The refusal as a problem.</summary>
    public IResult ToResult() => Problems.Create(Code, Detail, hint: Hint);
}

/// <summary>
/// Decides about the keys that requests show, and counts wrong ones: the API and previews share one bound for each address. The log and the
/// metrics have each refusal.
/// </summary>
internal sealed class KeyCheck(GuessBound guesses, Unauthorized unauthorized, ServerMetrics metrics)
{
    /// <summary>Accepts a key that was found, unless too many wrong ones came from the address.</summary>
    /// <returns>Null when it is accepted.</returns>
    public Refusal? Accept(Key key, IPAddress? address) => guesses.MayPass(address, key) ? null : TooMany();

    /// <summary>Refuses a request that shows no key of this server.</summary>
    /// <param name="isKeyShown">Whether it shows something else in a key's place, which counts as a guess.</param>
    /// <param name="address">Address of the client, or of the proxy before the server.</param>
    public Refusal Refuse(bool isKeyShown, IPAddress? address)
    {
        if (isKeyShown && !guesses.Guessed(address))
        {
            return TooMany();
        }

        unauthorized.Report(address, isKeyShown);
        return new Refusal(
            ErrorCodes.Unauthorized, "send a key of this server as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
            "'./pandora key create' on the server's host makes a key");
    }

    private Refusal TooMany()
    {
        metrics.GuessRefused();
        return new Refusal(
            ErrorCodes.TooManyAttempts,
            $"more than {GuessBound.Burst} wrong keys came from this address: whether this key is right is not said; try again later");
    }
}
