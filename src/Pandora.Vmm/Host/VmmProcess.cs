using System.Diagnostics;
using System.Globalization;
using Pandora.Linux;

namespace Pandora.Vmm.Host;

/// <summary>Starts a VMM's process in its cgroups and namespace, and finds it again.</summary>
public static class VmmProcess
{
    /// <summary>
    /// Environment variable that marks a VMM's process with its machine's id, so that it can be told from a stranger with a recycled pid.
    /// </summary>
    public const string MachineVariable = "PANDORA_MICROVM";

    /// <summary>Name of the file that the VMM's complaints go to, in the machine's directory.</summary>
    public const string LogName = "vmm.log";

    /// <summary>Number of the descriptor that a process's input file has.</summary>
    public const int InputDescriptor = 5;

    // Joins its cgroups, tells its pid, and becomes the VMM: nicer than the server, in a session of its own and in the slot's namespace,
    // with nothing of the server's open.
    private const string Launcher = """
        cd "$1" && echo $$ > vmm.pid || exit 1
        out=$2 netns=$3 input=$4; shift 4
        while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done
        shift
        [ -z "$input" ] || exec 5< "$input" || exit 1
        [ -z "$netns" ] || set -- nsenter --net="$netns" -- "$@"
        exec nice -n 6 setsid "$@" < /dev/null >> "$out" 2>> vmm.log
        """;

    /// <summary>Starts it.</summary>
    /// <param name="spec">The machine.</param>
    /// <param name="output">Name of the file in the machine's directory that its standard output is appended to.</param>
    /// <param name="namespacePath">Network namespace to enter first; empty when the program does so itself.</param>
    /// <param name="command">Program and arguments.</param>
    /// <param name="input">File that it gets as <see cref="InputDescriptor"/>, opened by root; null for none.</param>
    /// <exception cref="VmmException">It ended before it could be held.</exception>
    /// <exception cref="IOException">It could not be held, for want of descriptors say, and was killed.</exception>
    public static ProcessHandle Start(
        VirtualMachineSpec spec, string output, string namespacePath, IReadOnlyList<string> command, string? input = null) =>
        TryStart(spec, output, namespacePath, command, input)
            ?? throw new VmmException($"the VMM ended at once: {ReadLog(spec.Directory)}");

    /// <summary>Starts one that may end soon, such as a launcher.</summary>
    /// <returns>Null when it has ended already.</returns>
    /// <exception cref="IOException">It could not be held, for want of descriptors say, and was killed.</exception>
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

        // Nothing of the server's environment, where keys may be.
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
            // Nobody else would.
            launcher.Kill();
            throw;
        }
    }

    /// <summary>
    /// Finds the process of a machine whose server died, by the pid file and the machine's id in the process's environment or command line.
    /// </summary>
    /// <returns>Null when it does not run.</returns>
    /// <exception cref="IOException">It could not be seen, for want of descriptors say: that does not make it dead.</exception>
    public static ProcessHandle? Find(string directory, string id)
    {
        if (ReadPid(directory) is not { } pid || ProcessHandle.TryOpen(pid) is not { } process)
        {
            return null;
        }

        var isOurs = false;
        try
        {
            isOurs = IsOf(pid, id);
        }
        catch (Exception e) when (ProcessHandle.IsGone(e) || e is UnauthorizedAccessException)
        {
            // It has just ended, or is somebody else's.
        }
        finally
        {
            if (!isOurs)
            {
                process.Dispose();
            }
        }

        return isOurs ? process : null;
    }

    /// <summary>The end of what the VMM complained of.</summary>
    public static string ReadLog(string directory)
    {
        try
        {
            var text = File.ReadAllText(Path.Combine(directory, LogName)).Trim();
            return text.Length switch
            {
                0 => "it said nothing",
                > 2000 => text[^2000..],
                _ => text,
            };
        }
        catch (IOException)
        {
            return "it left no log";
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

    // The jailer clears the environment, and passes the id on as an argument.
    private static bool IsOf(int pid, string id) =>
        ProcessHandle.ReadEnvironment(pid).Contains($"{MachineVariable}={id}")
        || File.ReadAllText($"/proc/{pid}/cmdline").Contains(id, StringComparison.Ordinal);
}
