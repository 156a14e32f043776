using System.Diagnostics;
using System.Globalization;
using Pandora.Linux;

namespace Pandora.Vmm.Host;

/// <summary>Starts a VMM's process in its cgroups and namespace, and finds it again after a restart of the server.</summary>
public static class VmmProcess
{
    /// <summary>
    /// Environment variable that marks a VMM's process with its machine's id. It distinguishes the process from another one with the same
    /// pid, when the kernel has used the pid again.
    /// </summary>
    public const string MachineVariable = "PANDORA_MICROVM";

    /// <summary>Name of the file for the VMM's standard error, in the machine's directory.</summary>
    public const string LogName = "vmm.log";

    /// <summary>Number of the descriptor of a process's input file.</summary>
    public const int InputDescriptor = 5;

    // Writes its pid to a file, joins the cgroups, and becomes the VMM: with a lower priority than the server, in a new session and in the
    // slot's namespace, with no descriptor of the server open.
    private const string Launcher = """
        cd "$1" && echo $$ > vmm.pid || exit 1
        out=$2 netns=$3 input=$4; shift 4
        while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done
        shift
        [ -z "$input" ] || exec 5< "$input" || exit 1
        [ -z "$netns" ] || set -- nsenter --net="$netns" -- "$@"
        exec nice -n 6 setsid "$@" < /dev/null >> "$out" 2>> vmm.log
        """;

    /// <summary>Starts the process.</summary>
    /// <param name="spec">The machine.</param>
    /// <param name="output">Name of the file in the machine's directory to which standard output is appended.</param>
    /// <param name="namespacePath">Network namespace to enter first; empty if the program enters it itself.</param>
    /// <param name="command">Program and arguments.</param>
    /// <param name="input">File to open as <see cref="InputDescriptor"/>, as root; null for none.</param>
    /// <exception cref="VmmException">The process ended before a pidfd for it could be opened.</exception>
    /// <exception cref="IOException">A pidfd could not be opened, such as without free descriptors, and the process was killed.</exception>
    public static ProcessHandle Start(
        VirtualMachineSpec spec, string output, string namespacePath, IReadOnlyList<string> command, string? input = null) =>
        TryStart(spec, output, namespacePath, command, input)
            ?? throw new VmmException($"the VMM ended at once: {ReadLog(spec.Directory)}");

    /// <summary>Starts a process that may end soon, such as a launcher.</summary>
    /// <returns>Null if the process has ended already.</returns>
    /// <exception cref="IOException">A pidfd could not be opened, such as without free descriptors, and the process was killed.</exception>
    public static ProcessHandle? TryStart(
        VirtualMachineSpec spec, string output, string namespacePath, IReadOnlyList<string> command, string? input = null)
    {
        var start = new ProcessStartInfo("/bin/sh");
        string[] launch =
        [
            "-c",
            Launcher,
            "pandora-vmm",
            spec.Directory,
            output,
            namespacePath,
            input ?? "",
            .. spec.Cgroups,
            "--",
            .. command,
        ];
        foreach (var argument in launch)
        {
            start.ArgumentList.Add(argument);
        }

        // The server's environment may contain keys, so the process gets a new one.
        start.Environment.Clear();
        start.Environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        start.Environment[MachineVariable] = spec.Id;
        using var launcher = new Process { StartInfo = start };
        _ = Descriptors.Start(launcher);
        try
        {
            return ProcessHandle.TryOpen(launcher.Id);
        }
        catch (IOException)
        {
            // No other code would kill the process.
            launcher.Kill();
            throw;
        }
    }

    /// <summary>
    /// Finds the process of a machine whose server ended, by the pid file and by the machine's id in the process's environment or command
    /// line.
    /// </summary>
    /// <returns>Null if the process does not run.</returns>
    /// <exception cref="IOException">The check failed, such as without free descriptors: the process may run.</exception>
    public static ProcessHandle? Find(string directory, string id)
    {
        if (ReadPid(directory) is not { } pid || ProcessHandle.TryOpen(pid) is not { } process)
        {
            return null;
        }

        var isMachine = false;
        try
        {
            isMachine = RunsMachine(pid, id);
        }
        catch (Exception e) when (ProcessHandle.IsGone(e) || e is UnauthorizedAccessException)
        {
            // The process has just ended, or belongs to another user.
        }
        finally
        {
            if (!isMachine)
            {
                process.Dispose();
            }
        }

        return isMachine ? process : null;
    }

    /// <summary>Reads the end of the VMM's standard error, at most 2000 characters.</summary>
    public static string ReadLog(string directory)
    {
        try
        {
            var text = File.ReadAllText(Path.Combine(directory, LogName)).Trim();
            return text.Length switch
            {
                0 => "its log is empty",
                > 2000 => text[^2000..],
                _ => text,
            };
        }
        catch (IOException)
        {
            return "it has no log";
        }
    }

    private static int? ReadPid(string directory)
    {
        try
        {
            var text = File.ReadAllText(Path.Combine(directory, "vmm.pid"));
            return int.TryParse(text, CultureInfo.InvariantCulture, out var pid) ? pid : null;
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException or UnauthorizedAccessException)
        {
            return null;
        }
    }

    // The jailer clears the environment, and passes the id to Firecracker as an argument.
    private static bool RunsMachine(int pid, string id) =>
        ProcessHandle.ReadEnvironment(pid).Contains($"{MachineVariable}={id}")
        || File.ReadAllText($"/proc/{pid}/cmdline").Contains(id, StringComparison.Ordinal);
}
