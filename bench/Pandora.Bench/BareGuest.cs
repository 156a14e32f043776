using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.Templates;
using Pandora.Linux;
using Pandora.Vmm.Qemu;

namespace Pandora.Bench;

/// <summary>A microVM of the default template without a server: this program is at the other end of its channel. It is a
/// reference.</summary>
internal sealed class BareGuest : IAsyncDisposable
{
    private readonly Stack<Func<ValueTask>> _undo = new();

    private BareGuest()
    {
    }

    /// <summary>The guest.</summary>
    public AgentGuest Guest { get; private set; } = null!;

    public static async Task<BareGuest> StartAsync(Target target)
    {
        var bare = new BareGuest();
        try
        {
            await bare.StartAsync(target.Templates);
            return bare;
        }
        catch
        {
            await bare.DisposeAsync();
            throw;
        }
    }

    public async ValueTask DisposeAsync()
    {
        while (_undo.TryPop(out var undo))
        {
            await undo();
        }
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "What is made is pushed to be disposed of.")]
    private async Task StartAsync(string templates)
    {
        var work = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        _undo.Push(() =>
        {
            Directory.Delete(work, recursive: true);
            return ValueTask.CompletedTask;
        });
        var name = $"pandora-bench-{Environment.ProcessId}s";
        await Command.RunAsync("ip", ["netns", "add", name]);
        _undo.Push(async () => await Command.RunAsync("ip", ["netns", "del", name]));
        await Command.RunAsync("ip", ["-n", name, "-batch", "-"], "tuntap add dev tap0 mode tap user 65534\nlink set tap0 up\n");
        var template = new TemplateStore(templates).Find(EngineOptions.DefaultTemplate)!;
        var vmm = await QemuVmm.CreateAsync(Accelerator.Auto, "the benchmark", null, TimeProvider.System, CancellationToken.None);
        Push(vmm);
        var key = await ClientKey.LoadAsync(work, CancellationToken.None);
        Push(key);
        var machine = await AgentBench.StartAsync(vmm, template, name, work, key);
        _undo.Push(machine.DisposeAsync);
        var connection = new ChannelConnection(
            await machine.ConnectStreamsAsync(CancellationToken.None), "bench", TimeProvider.System, NullLogger.Instance);
        _undo.Push(connection.DisposeAsync);
        Guest = new AgentGuest(connection, ExecWay.Agent, TimeProvider.System);
        await Guest.ExecAsync(new GuestCommand { Code = "true" }, CancellationToken.None);
    }

    private void Push(IDisposable disposable) => _undo.Push(() =>
    {
        disposable.Dispose();
        return ValueTask.CompletedTask;
    });
}
