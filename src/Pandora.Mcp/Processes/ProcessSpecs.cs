using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Processes;

/// <summary>Makes processes of commands.</summary>
internal static class ProcessSpecs
{
    /// <summary>What to start.</summary>
    /// <exception cref="PandoraException">The directory is no full path.</exception>
    public static ProcessSpec Of(string command, string? cwd, IReadOnlyDictionary<string, string>? env, string? user)
    {
        // The guest would take it from its root, and the tools for files from root's home.
        if (cwd is not null && !cwd.StartsWith('/'))
        {
            throw PandoraException.Invalid("cwd", "must be a full path, which begins with /");
        }

        return new()
        {
            Code = command,
            Directory = cwd,
            Environment = env ?? new Dictionary<string, string>(),
            User = user,
            IsMerged = true,
            // While a model reads, nothing is lost; between two calls the oldest output is dropped, and the process goes on.
            WaitsWhileRead = true,
        };
    }

    /// <summary>Starts a process, and reads it from its first byte.</summary>
    /// <exception cref="PandoraException">The request is invalid; the fields have the names of the tools' arguments.</exception>
    public static async Task<SandboxProcess> OpenAsync(Sandbox sandbox, ProcessSpec spec, CancellationToken stop)
    {
        try
        {
            return await sandbox.OpenProcessAsync(spec, stop);
        }
        catch (PandoraException e) when (e.Field == "code")
        {
            throw new PandoraException(e.Error, e.Message, "command", e) { HasGuestWords = e.HasGuestWords };
        }
    }
}
