using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guest;
using Pandora.Engine.Networking;
using Pandora.Engine.Observability;
using Pandora.Engine.Templates;
using Pandora.Vmm;
using Pandora.Vmm.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>
/// Boots microVMs: (1) record, (2) slot, (3) disk, (4) VMM, (5) guest. Each step is named and timed. What a step acquires it first pushes on the teardown,
/// so a boot that fails at any step undoes exactly what it had done.
/// </summary>
public sealed partial class MicroVmLauncher(
    EngineOptions options, Instance instance, SlotPool slots, CgroupTree cgroups, IVmm vmm, ClientKey key, HostNetwork network, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers)
{
    /// <summary>What QEMU itself needs besides the guest's memory, in bytes: code, translation cache, buffers.</summary>
    private const long VmmOverhead = 256L * 1024 * 1024;
    private readonly ILogger _logger = loggers.CreateLogger<MicroVmLauncher>();

    /// <summary>Whether anything could not be undone so far.</summary>
    public bool HasLeft { get; private set; }

    /// <summary>Boots one microVM and returns it when its guest has been reached.</summary>
    /// <exception cref="BootException">A step failed; the message says which and holds the end of the guest's console.</exception>
    public async Task<MicroVm> LaunchAsync(Template template, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var boot = NewBoot(Instance.NewMicroVmId(), template);
        using var span = EngineTracing.Source.StartActivity("microvm.boot");
        span?.SetTag("pandora.sandbox.id", boot.Id).SetTag("pandora.template", template.Name);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(options.BootTimeout), time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        string step = "";
        try
        {
            foreach (var (name, run) in new (string, Func<Boot, CancellationToken, Task>)[]
            {
                ("slot", TakeSlotAsync), ("record", RecordAsync), ("disk", MakeDiskAsync), ("vmm", StartVmmAsync), ("guest", (b, token) => ReachGuestAsync(b, b.Identity!.HostKey, isTakenOver: false, token)),
            })
            {
                step = name;
                using var stepSpan = EngineTracing.Source.StartActivity($"microvm.boot.{name}");
                var stepStart = Stopwatch.GetTimestamp();
                await run(boot, linked.Token);
                metrics.BootStepped(template.Name, name, Stopwatch.GetElapsedTime(stepStart));
            }

            metrics.Booted(template.Name, Stopwatch.GetElapsedTime(start));
            LogBooted(boot.Id, template.Name, Stopwatch.GetElapsedTime(start).TotalSeconds);
            return new MicroVm(boot.Record!, boot.Directory, boot.Slot!, boot.Machine!, boot.Guest!, boot.Teardown) { BootTrace = span?.Context };
        }
        catch (Exception e)
        {
            var console = boot.Machine is null ? "" : await boot.Machine.ReadConsoleAsync(CancellationToken.None);
            await boot.Teardown.CompleteAsync();
            cancellationToken.ThrowIfCancellationRequested();
            span.Fail(step, e);
            var reason = limit.IsCancellationRequested ? $"not ready within {options.BootTimeout:0} s" : e.Message;
            throw new BootException(step, $"boot failed at step '{step}': {reason}{Tail(console)}", e);
        }
    }

    private async Task TakeSlotAsync(Boot boot, CancellationToken cancellationToken)
    {
        boot.Slot = await slots.RentAsync(cancellationToken);
        boot.Uid = instance.UidOf(boot.Slot.Index);
        HoldSlot(boot);
    }

    private async Task RecordAsync(Boot boot, CancellationToken cancellationToken)
    {
        boot.Identity = GuestIdentity.Create();
        Directory.CreateDirectory(boot.Directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        HoldFiles(boot);
        boot.Record = new MicroVmRecord
        {
            Id = boot.Id,
            Instance = instance.Id,
            BootId = MicroVmRecord.HostBootId,
            Template = boot.Template!.Name,
            Slot = boot.Slot!.Index,
            Address = boot.Slot.Address.ToString(),
            Network = network.Range.ToString(),
            Uid = boot.Uid,
            HostKey = Convert.ToBase64String(boot.Identity.HostKey),
            Resources = boot.Teardown.Resources,
        };
        boot.Record.Write(boot.Directory);
        await boot.Identity.WriteInitrdAsync(boot.Template.InitrdPath, boot.InitrdPath, $"pandora-{boot.Id[..8]}", key.PublicLine, network.Mtu, cancellationToken);
    }

    private Task MakeDiskAsync(Boot boot, CancellationToken cancellationToken) =>
        Task.Run(() => SparseFile.Copy(boot.Template!.DiskPath, boot.DiskPath), cancellationToken);

    private async Task StartVmmAsync(Boot boot, CancellationToken cancellationToken)
    {
        cgroups.Add(boot.Id, new CgroupLimits((boot.Template!.MemoryMiB * 1024L * 1024) + VmmOverhead, 128 + boot.Template.VcpuCount));
        var machine = await vmm.StartAsync(
            new VirtualMachineSpec
            {
                Id = boot.Id,
                Directory = boot.Directory,
                KernelPath = boot.Template.KernelPath,
                InitrdPath = boot.InitrdPath,
                Drives = [new DriveSpec(boot.Template.RootPath, IsReadOnly: true), new DriveSpec(boot.DiskPath, IsReadOnly: false)],
                Network = new NetworkSpec(boot.Slot!.NamespacePath, NetworkSlot.TapName, NetworkSlot.GuestMac),
                VcpuCount = boot.Template.VcpuCount,
                MemoryMiB = boot.Template.MemoryMiB,
                KernelArguments = boot.Template.KernelArguments ?? "",
                Limits = options.DeviceLimits,
                Uid = boot.Uid,
                Cgroups = cgroups.PathsFor(boot.Id),
            }, cancellationToken);
        HoldMachine(boot, machine);
        boot.Record = boot.Record! with { Vmm = machine.Handle, Resources = boot.Teardown.Resources };
        boot.Record.Write(boot.Directory);
    }

    private async Task ReachGuestAsync(Boot boot, byte[] hostKey, bool isTakenOver, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var connecting = SshGuest.ConnectAsync(boot.Slot!.Address, key, hostKey, options.MaxExecs, isTakenOver, time, loggers.CreateLogger<SshGuest>(), stop.Token);
        if (await Task.WhenAny(connecting, boot.Machine!.Exited) != connecting)
        {
            await stop.CancelAsync();
            await ((Task)connecting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw new VmmException(await boot.Machine.Exited);
        }

        HoldGuest(boot, await connecting);
        if (isTakenOver)
        {
            return;
        }

        // The guest has unpacked it; it holds the host key.
        File.Delete(boot.InitrdPath);
        boot.Record = boot.Record! with { IsReady = true, Resources = boot.Teardown.Resources };
        boot.Record.Write(boot.Directory);
    }

    private void Report(Undone left)
    {
        HasLeft = true;
        metrics.TeardownFailed(left.Resource.Kind.ToString().ToLowerInvariant());
        LogLeft(left.Resource.Kind, left.Resource.Name, left.Error ?? "it is still there");
    }

    private static string Tail(string console)
    {
        var text = console.Trim();
        return text.Length == 0 ? "; its console is empty" : $"; its console ends with:\n{(text.Length > 1500 ? text[^1500..] : text)}";
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "microVM {SandboxId} of template {Template} is warm after {Seconds:0.00} s")]
    private partial void LogBooted(string sandboxId, string template, double seconds);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Kind} {Name} could not be undone: {Error}. The next start removes it")]
    private partial void LogLeft(ResourceKind kind, string name, string error);

    private Boot NewBoot(string id, Template? template) =>
        new(id, template, Path.Combine(instance.RunDirectory, id), Path.Combine(instance.DiskDirectory, $"{id}.ext4"), new Teardown(time, Report));

    /// <summary>A microVM that comes to be, or is taken over.</summary>
    private sealed class Boot(string id, Template? template, string directory, string diskPath, Teardown teardown)
    {
        public string Id => id;
        public Template? Template => template;
        public string Directory => directory;
        public string DiskPath => diskPath;
        public string InitrdPath => Path.Combine(directory, "initrd");
        public Teardown Teardown => teardown;
        public NetworkSlot? Slot { get; set; }
        public int Uid { get; set; }
        public GuestIdentity? Identity { get; set; }
        public MicroVmRecord? Record { get; set; }
        public IVirtualMachine? Machine { get; set; }
        public SshGuest? Guest { get; set; }
    }
}

/// <summary>A microVM did not come up.</summary>
public sealed class BootException(string step, string message, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>The step it failed at: <c>slot</c>, <c>record</c>, <c>disk</c>, <c>vmm</c>, <c>guest</c>.</summary>
    public string Step { get; } = step;
}
