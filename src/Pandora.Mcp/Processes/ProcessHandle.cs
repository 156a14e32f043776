using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp.Processes;

/// <summary>Handles of processes: the id of the sandbox, a slash, and the id of the process.</summary>
internal static class ProcessHandle
{
    /// <summary>The handle of a process.</summary>
    public static string Of(Sandbox sandbox, string process) => $"{sandbox.Id}/{process}";

    /// <summary>The sandbox and the process of a handle.</summary>
    /// <exception cref="PandoraException">It is no handle, or there is no such sandbox.</exception>
    public static (Sandbox Sandbox, string Process) Find(ProjectSandboxes sandboxes, string handle) =>
        handle.Split('/') is [{ Length: > 0 } sandbox, { Length: > 0 } process]
            ? (sandboxes.Get(sandbox), process)
            : throw PandoraException.Invalid("process", "must be a handle from an answer of run or process_start: SANDBOX/PROCESS");
}
