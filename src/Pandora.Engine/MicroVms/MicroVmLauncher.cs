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

    /// <summary>Boots one microVM and returns it when its guest has been reached.</summary>
    /// <exception cref="BootException">A step failed; the message says which and holds the end of the guest's console.</exception>
    public async Task<MicroVm> LaunchAsync(Template template, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var boot = new Boot(Instance.NewMicroVmId(), template, new Teardown(time, Report));
        using var span = EngineTracing.Source.StartActivity("microvm.boot");
        span?.SetTag("pandora.sandbox.id", boot.Id).SetTag("pandora.template", template.Name);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(options.BootTimeout), time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        string step = "";
        try
        {
            foreach (var (name, run) in new (string, Func<Boot, CancellationToken, Task>)[]
            {
                ("slot", TakeSlotAsync), ("record", RecordAsync), ("disk", MakeDiskAsync), ("vmm", StartVmmAsync), ("guest", ReachGuestAsync),
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
            return new MicroVm(boot.Record!, boot.Directory!, template, boot.Slot!, boot.Machine!, boot.Guest!, boot.Teardown) { BootTrace = span?.Context };
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
        var slot = await slots.RentAsync(cancellationToken);
        boot.Slot = slot;
        // Its number is free again only when everything that used it is gone: this waits behind all the rest.
        boot.Teardown.Push(new HostResource(ResourceKind.Slot, $"{slot.Index}"), () =>
        {
            if (boot.Machine is { IsRunning: true })
            {
                throw new InvalidOperationException("its VMM still runs, so the slot is not used again");
            }

            slots.Free(slot);
            return ValueTask.CompletedTask;
        }, canWait: true);
        boot.Teardown.Push(new HostResource(ResourceKind.Namespace, slot.NamespaceName), () => new ValueTask(slots.DeleteNamespaceAsync(slot)), canWait: true);
        boot.Teardown.Push(new HostResource(ResourceKind.Interface, slot.InterfaceName), () => new ValueTask(slots.DeleteInterfaceAsync(slot)), canWait: true);
    }

    private async Task RecordAsync(Boot boot, CancellationToken cancellationToken)
    {
        var directory = Path.Combine(instance.RunDirectory, boot.Id);
        boot.Directory = directory;
        boot.Identity = GuestIdentity.Create();
        boot.DiskPath = Path.Combine(instance.DiskDirectory, $"{boot.Id}.ext4");
        boot.Uid = instance.UidOf(boot.Slot!.Index);
        Directory.CreateDirectory(directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        boot.Teardown.Push(new HostResource(ResourceKind.Directory, directory), () =>
        {
            Directory.Delete(directory, recursive: true);
            return ValueTask.CompletedTask;
        });
        boot.Teardown.Push(new HostResource(ResourceKind.File, boot.DiskPath), () =>
        {
            File.Delete(boot.DiskPath);
            return ValueTask.CompletedTask;
        });
        foreach (var made in vmm.DirectoriesOf(boot.Id))
        {
            // The machine's own end removes it; a start that failed has done so.
            boot.Teardown.Push(new HostResource(ResourceKind.Directory, made), () => ValueTask.CompletedTask);
        }

        foreach (var path in cgroups.PathsFor(boot.Id))
        {
            boot.Teardown.Push(new HostResource(ResourceKind.Cgroup, path), () => new ValueTask(CgroupTree.RemoveAsync(path, time)));
        }

        boot.Record = new MicroVmRecord
        {
            Id = boot.Id,
            Instance = instance.Id,
            Template = boot.Template.Name,
            Slot = boot.Slot.Index,
            Uid = boot.Uid,
            HostKey = Convert.ToBase64String(boot.Identity.HostKey),
            Resources = boot.Teardown.Resources,
        };
        boot.Record.Write(directory);
        await boot.Identity.WriteInitrdAsync(boot.Template.InitrdPath, boot.InitrdPath, $"pandora-{boot.Id[..8]}", key.PublicLine, network.Mtu, cancellationToken);
    }

    private Task MakeDiskAsync(Boot boot, CancellationToken cancellationToken) =>
        Task.Run(() => SparseFile.Copy(boot.Template.DiskPath, boot.DiskPath!), cancellationToken);

    private async Task StartVmmAsync(Boot boot, CancellationToken cancellationToken)
    {
        cgroups.Add(boot.Id, new CgroupLimits((boot.Template.MemoryMiB * 1024L * 1024) + VmmOverhead, 128 + boot.Template.VcpuCount));
        var machine = await vmm.StartAsync(
            new VirtualMachineSpec
            {
                Id = boot.Id,
                Directory = boot.Directory!,
                KernelPath = boot.Template.KernelPath,
                InitrdPath = boot.InitrdPath,
                Drives = [new DriveSpec(boot.Template.RootPath, IsReadOnly: true), new DriveSpec(boot.DiskPath!, IsReadOnly: false)],
                Network = new NetworkSpec(boot.Slot!.NamespacePath, NetworkSlot.TapName, NetworkSlot.GuestMac),
                VcpuCount = boot.Template.VcpuCount,
                MemoryMiB = boot.Template.MemoryMiB,
                KernelArguments = boot.Template.KernelArguments ?? "",
                Limits = options.DeviceLimits,
                Uid = boot.Uid,
                Cgroups = cgroups.PathsFor(boot.Id),
            }, cancellationToken);
        boot.Machine = machine;
        boot.Teardown.Push(HostResource.OfProcess(machine.Handle.Pid, machine.Handle.StartTime), machine.DisposeAsync);
        boot.Record = boot.Record! with { Vmm = machine.Handle, Resources = boot.Teardown.Resources };
        boot.Record.Write(boot.Directory!);
    }

    private async Task ReachGuestAsync(Boot boot, CancellationToken cancellationToken)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var connecting = SshGuest.ConnectAsync(boot.Slot!.Address, key, boot.Identity!.HostKey, options.MaxExecs, time, loggers.CreateLogger<SshGuest>(), stop.Token);
        if (await Task.WhenAny(connecting, boot.Machine!.Exited) != connecting)
        {
            await stop.CancelAsync();
            await ((Task)connecting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw new VmmException(await boot.Machine.Exited);
        }

        var guest = await connecting;
        boot.Guest = guest;
        boot.Teardown.Push(new HostResource(ResourceKind.Connection, $"ssh {boot.Slot.Address}"), () =>
        {
            // Closing politely waits for a guest that may be dead or hostile, and the VMM's end closes it anyway.
            _ = guest.DisposeAsync().AsTask();
            return ValueTask.CompletedTask;
        });
        // The guest has unpacked it; it holds the host key.
        File.Delete(boot.InitrdPath);
    }

    private void Report(Undone left)
    {
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

    private sealed class Boot(string id, Template template, Teardown teardown)
    {
        public string Id => id;
        public Template Template => template;
        public Teardown Teardown => teardown;
        public NetworkSlot? Slot { get; set; }
        public string? Directory { get; set; }
        public string? DiskPath { get; set; }
        public string InitrdPath => Path.Combine(Directory!, "initrd");
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
