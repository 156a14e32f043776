using Pandora.Agent.Processes;

namespace Pandora.Agent.Ports;

/// <summary>Starts the guest's SSH server as a process.</summary>
internal static class SshProcess
{
    private static readonly Account s_root = new("root", 0, 0, [0], "/root", "/bin/sh");

    /// <summary>Starts a server, outside of the agent's own cgroup. What users start in its sessions lives on after its end.</summary>
    /// <param name="arguments">Its path and its arguments.</param>
    /// <param name="socket">Its input and its output.</param>
    /// <returns>A descriptor of the process (pidfd_open(2)).</returns>
    /// <exception cref="RequestFailedException">It could not be started.</exception>
    public static int Start(IReadOnlyList<string> arguments, int socket)
    {
        var cgroup = CommandCgroup.OpenForSsh();
        var nowhere = Linux.TryOpen("/dev/null", isWritten: true);
        try
        {
            return Spawner.Start(new SpawnSpec
            {
                Programs = [arguments[0]],
                Arguments = arguments,
                // The server sets the environment of its sessions itself.
                Environment = [CommandEnvironment.DefaultVariable, "LANG=C.UTF-8"],
                Directory = "/",
                OtherDirectory = null,
                Account = s_root,
                Cgroup = cgroup,
                Input = socket,
                Output = socket,
                Error = nowhere,
                IsTerminal = false,
            }).Pidfd;
        }
        finally
        {
            Linux.Close(nowhere);
            Linux.Close(cgroup);
        }
    }
}
