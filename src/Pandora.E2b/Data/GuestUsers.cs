using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using System.Text;
using Pandora.E2b.Connect;
using Pandora.Engine;
using Pandora.Engine.Guests.Files;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Data;

/// <summary>A user of a guest.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Home">Its home directory, an absolute path.</param>
internal sealed record GuestUser(string Name, string Home)
{
    /// <summary>The absolute path that a client means: <c>~</c> is the home, in which relative paths begin.</summary>
    public string Resolve(string path) => path switch
    {
        "" or "~" => Home,
        ['/', ..] => path,
        ['~', '/', ..] => Join(path[2..]),
        _ => Join(path),
    };

    private string Join(string path) => $"{Home.TrimEnd('/')}/{path}";
}

/// <summary>Finds the users of guests, and remembers them as long as their sandboxes: each costs a question to the guest.</summary>
internal sealed class GuestUsers
{
    /// <summary>Name of the user of calls that name none.</summary>
    public const string DefaultName = "user";

    private const int MostRemembered = 64;
    private readonly ConditionalWeakTable<Sandbox, ConcurrentDictionary<string, GuestUser>> _known = [];

    /// <summary>Finds a user.</summary>
    /// <param name="sandbox">The sandbox.</param>
    /// <param name="name">The user; null for the default one, or root in a guest without that one.</param>
    /// <param name="cancellationToken">Ends the question.</param>
    /// <exception cref="ConnectException">The guest has no such user.</exception>
    public async Task<GuestUser> FindAsync(Sandbox sandbox, string? name, CancellationToken cancellationToken)
    {
        var known = _known.GetOrCreateValue(sandbox);
        if (known.TryGetValue(name ?? "", out var user))
        {
            return user;
        }

        user = await AskAsync(sandbox, name ?? DefaultName, cancellationToken)
            ?? (name is null ? await AskAsync(sandbox, "root", cancellationToken) : null)
            ?? throw new ConnectException(ConnectCode.Unauthenticated, $"invalid username: '{name ?? DefaultName}'");
        if (known.Count < MostRemembered)
        {
            known[name ?? ""] = user;
        }

        return user;
    }

    private static async Task<GuestUser?> AskAsync(Sandbox sandbox, string name, CancellationToken cancellationToken)
    {
        try
        {
            var spec = new FileSpec(FileAction.Show, "."u8.ToArray()) { User = name, FollowsLinks = true };
            var answer = await sandbox.AskFilesAsync(spec, cancellationToken);
            return new GuestUser(name, Encoding.UTF8.GetString(answer.Files[0].Path));
        }
        catch (PandoraException e) when (e is { Error: PandoraError.InvalidRequest, Field: "user" })
        {
            return null;
        }
        catch (PandoraException e) when (e.Error
            is PandoraError.FileNotFound or PandoraError.FileAccessDenied or PandoraError.FilesUnsupported)
        {
            // A user without a home begins at the root; and one whose home an older agent cannot tell.
            return new GuestUser(name, "/");
        }
    }
}
