using System.Text;
using Microsoft.AspNetCore.Http;
using Pandora.E2b.Connect;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Data;

/// <summary>A request for the agent of a sandbox, whose token was checked.</summary>
/// <param name="Context">The request.</param>
/// <param name="Sandbox">The sandbox.</param>
/// <param name="Users">The users of the sandbox.</param>
internal sealed record GuestRequest(HttpContext Context, Sandbox Sandbox, GuestUsers Users)
{
    /// <summary>Whether a signature stands for the token: it is for one user, and no header names another.</summary>
    public bool IsSigned { get; init; }

    /// <summary>Cancelled when the client is gone.</summary>
    public CancellationToken Aborted => Context.RequestAborted;

    /// <summary>The call, for the services that are called by the Connect protocol.</summary>
    public ConnectCall Call { get; } = new(Context);

    /// <summary>The user that the call names; null for the default one.</summary>
    /// <exception cref="ConnectException">The header names no user.</exception>
    public string? UserName
    {
        get
        {
            var header = Context.Request.Headers.Authorization.ToString();
            if (header.Length == 0)
            {
                return null;
            }

            var isBasic = header.StartsWith("Basic ", StringComparison.OrdinalIgnoreCase);
            Span<byte> bytes = stackalloc byte[256];
            if (!isBasic || header.Length > 256 || !Convert.TryFromBase64String(header[6..].Trim(), bytes, out var count)
                || Encoding.UTF8.GetString(bytes[..count]).Split(':') is not [{ Length: > 0 } name, ..])
            {
                throw new ConnectException(ConnectCode.Unauthenticated, "the header Authorization must name a user: Basic base64(USER:)");
            }

            return name;
        }
    }

    /// <summary>Finds the user that the call names.</summary>
    /// <exception cref="ConnectException">The guest has no such user.</exception>
    public Task<GuestUser> UserAsync() => Users.FindAsync(Sandbox, UserName, Aborted);
}
