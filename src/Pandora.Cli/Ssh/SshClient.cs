using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pandora.Cli.Ssh;

/// <summary>Runs the system's ssh in this program's place: its terminal, its signals and its exit code are this program's.</summary>
internal static partial class SshClient
{
    private const int Hangup = 1, Terminate = 15;

    /// <summary>Runs it.</summary>
    /// <returns>Its exit code: the command's, 255 when ssh failed, 128 + n when signal n ended it.</returns>
    /// <exception cref="UsageException">It is not installed.</exception>
    public static async Task<int> RunAsync(SshHost host, IEnumerable<string> options, string? command)
    {
        string[] words = ["-F", host.ConfigFile, .. options, "--", host.Host, .. command is null ? (string[])[] : [command]];
        using var ssh = OpenSsh.Start(new ProcessStartInfo("ssh", words));
        // The terminal sends Ctrl-C to both. What is sent to this program alone is for ssh.
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, context => context.Cancel = true);
        using var quit = PosixSignalRegistration.Create(PosixSignal.SIGQUIT, context => context.Cancel = true);
        using var hangup = PosixSignalRegistration.Create(PosixSignal.SIGHUP, context => Pass(context, ssh.Id, Hangup));
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, context => Pass(context, ssh.Id, Terminate));
        await ssh.WaitForExitAsync();
        return ssh.ExitCode;
    }

    // Until it is waited for, no other process has its pid.
    private static void Pass(PosixSignalContext context, int pid, int signal)
    {
        context.Cancel = true;
        _ = Kill(pid, signal);
    }

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int pid, int signal);
}
