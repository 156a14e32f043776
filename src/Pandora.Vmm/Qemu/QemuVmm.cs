using System.Collections.Concurrent;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Pandora.Vmm.Linux;

namespace Pandora.Vmm.Qemu;

/// <summary>Which accelerator to use.</summary>
public enum Accelerator
{
    /// <summary>KVM where it is really usable, else TCG.</summary>
    Auto,

    /// <summary>KVM, or refuse to start.</summary>
    Kvm,

    /// <summary>Emulation.</summary>
    Tcg,
}

/// <summary>Runs machines with QEMU from the distribution's packages.</summary>
public sealed partial class QemuVmm : IVmm, IDisposable
{
    /// <summary>Environment variable that marks a VMM's process with its machine's id, so that it can be told from a stranger with a recycled pid.</summary>
    public const string MachineVariable = "PANDORA_MICROVM";

    // Joins its cgroups, tells its pid, and becomes QEMU: nicer than the server, in a session of its own and in the slot's namespace, with nothing of the server's open.
    private const string Launcher = """
        cd "$1" && echo $$ > vmm.pid || exit 1
        netns=$2; shift 2
        while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 1; shift; done
        shift
        exec nice -n 6 setsid nsenter --net="$netns" -- "$@" < /dev/null >> vmm.log 2>&1
        """;

    private const long MaxLogBytes = 256 * 1024;
    private readonly ConcurrentDictionary<string, bool> _logs = new();
    private readonly ITimer _logTimer;
    private readonly TimeProvider _time;
    private readonly Architecture _architecture;
    private readonly bool _useKvm;
    private readonly bool _canRunWith;

    private QemuVmm(TimeProvider time, Architecture architecture, bool useKvm, bool canRunWith, VmmCapabilities capabilities)
    {
        _time = time;
        _architecture = architecture;
        _useKvm = useKvm;
        _canRunWith = canRunWith;
        Capabilities = capabilities;
        _logTimer = time.CreateTimer(_ => BoundLogs(), null, TimeSpan.FromSeconds(2), TimeSpan.FromSeconds(2));
    }

    /// <inheritdoc/>
    public VmmCapabilities Capabilities { get; }

    /// <summary>Looks at the installed QEMU and at KVM.</summary>
    /// <exception cref="VmmException">QEMU is not installed, or KVM was demanded and cannot be used.</exception>
    public static async Task<QemuVmm> CreateAsync(Accelerator accelerator, TimeProvider time, CancellationToken cancellationToken)
    {
        var architecture = RuntimeInformation.ProcessArchitecture;
        var binary = QemuCommandLine.BinaryFor(architecture);
        string version, help;
        try
        {
            version = await Command.RunAsync(binary, ["--version"], cancellationToken: cancellationToken);
            help = await Command.RunAsync(binary, ["--help"], cancellationToken: cancellationToken);
        }
        catch (CommandException e)
        {
            throw new VmmException(e.Message, e);
        }

        var kvm = KvmCheck.Run(isX64: architecture == Architecture.X64);
        if (accelerator == Accelerator.Kvm && !kvm.IsUsable)
        {
            throw new VmmException($"PANDORA_ACCEL=kvm, but {kvm.Reason}; use PANDORA_ACCEL=auto to fall back to emulation");
        }

        var useKvm = accelerator != Accelerator.Tcg && kvm.IsUsable;
        var reason = accelerator == Accelerator.Tcg ? "PANDORA_ACCEL=tcg" : kvm.Reason;
        var match = VersionPattern().Match(version);
        var capabilities = new VmmCapabilities("QEMU", match.Success ? match.Groups[1].Value : "unknown", useKvm ? "KVM" : "TCG", reason);
        return new QemuVmm(time, architecture, useKvm, help.Contains("user=username", StringComparison.Ordinal), capabilities);
    }

    /// <inheritdoc/>
    public async Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken)
    {
        var arguments = QemuCommandLine.Create(spec, _architecture, _useKvm, HostTsc.KiloHertz, _canRunWith);
        var start = new ProcessStartInfo("/bin/sh");
        string[] launch = ["-c", Launcher, "pandora-vmm", spec.Directory, spec.Network.NamespacePath, .. spec.Cgroups, "--", QemuCommandLine.BinaryFor(_architecture), .. arguments];
        foreach (var argument in launch)
        {
            start.ArgumentList.Add(argument);
        }

        // Nothing of the server's environment, where keys may be.
        start.Environment.Clear();
        start.Environment["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        start.Environment[MachineVariable] = spec.Id;

        int pid;
        using (var launcher = Process.Start(start) ?? throw new VmmException("/bin/sh could not be started"))
        {
            pid = launcher.Id;
        }

        var process = ProcessHandle.TryOpen(pid) ?? throw new VmmException($"QEMU ended at once: {ReadLog(spec.Directory)}");
        var machine = new QemuVirtualMachine(new VirtualMachineHandle(spec.Id, spec.Directory, pid, process.StartTime), process, _time);
        _logs[spec.Directory] = true;
        try
        {
            await machine.ConnectAsync(cancellationToken);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task<IVirtualMachine?> AttachAsync(VirtualMachineHandle handle, CancellationToken cancellationToken)
    {
        var process = ProcessHandle.TryOpen(handle.Pid, handle.StartTime);
        if (process is null)
        {
            return null;
        }

        var machine = new QemuVirtualMachine(handle, process, _time);
        try
        {
            await machine.ConnectAsync(cancellationToken);
            return machine;
        }
        catch (VmmException)
        {
            await machine.DisposeAsync();
            return null;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _logTimer.Dispose();

    /// <summary>Finds the process of a machine whose server died, by the pid file and the mark in the process's environment.</summary>
    public static ProcessHandle? FindProcess(string directory, string id)
    {
        try
        {
            var pid = int.Parse(File.ReadAllText(Path.Combine(directory, "vmm.pid")), CultureInfo.InvariantCulture);
            var process = ProcessHandle.TryOpen(pid);
            if (process is not null && ProcessHandle.ReadEnvironment(pid).Contains($"{MachineVariable}={id}"))
            {
                return process;
            }

            process?.Dispose();
            return null;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            return null;
        }
    }

    // A guest can make QEMU complain without end. The log is written in append mode, so that it can be emptied under it.
    private void BoundLogs()
    {
        foreach (var (directory, _) in _logs)
        {
            try
            {
                if (new FileInfo(LogPath(directory)).Length > MaxLogBytes)
                {
                    using var file = new FileStream(LogPath(directory), FileMode.Open, FileAccess.Write, FileShare.ReadWrite);
                    file.SetLength(0);
                }
            }
            catch (IOException)
            {
                // The machine is gone, and its directory with it.
                _logs.TryRemove(directory, out _);
            }
        }
    }

    private static string LogPath(string directory) => Path.Combine(directory, "vmm.log");

    internal static string SocketPath(string directory) => Path.Combine(directory, "qmp.sock");

    internal static string ReadLog(string directory)
    {
        try
        {
            var text = File.ReadAllText(LogPath(directory)).Trim();
            return text.Length == 0 ? "it said nothing" : text.Length > 2000 ? text[^2000..] : text;
        }
        catch (IOException)
        {
            return "it left no log";
        }
    }

    [GeneratedRegex(@"version ([0-9.]+)")]
    private static partial Regex VersionPattern();
}
