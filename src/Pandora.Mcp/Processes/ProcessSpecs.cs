using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Processes;

/// <summary>Makes processes of commands.</summary>
internal static class ProcessSpecs
{
    /// <summary>What to start.</summary>
    public static ProcessSpec Of(string command, string? cwd, IReadOnlyDictionary<string, string>? env, string? user) => new()
    {
        Code = command,
        Directory = cwd,
        Environment = env ?? new Dictionary<string, string>(),
        User = user,
        IsMerged = true,
        // While a model reads, nothing is lost; between two calls the oldest output is dropped, and the process goes on.
        WaitsWhileRead = true,
    };

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
