using System.Diagnostics;
using Pandora.Agent.Protocol;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Templates;
using Pandora.Engine;
using Pandora.Load;
using Pandora.Vmm;
using Pandora.Linux;
using Pandora.Vmm.Qemu;

namespace Pandora.Bench;

/// <summary>
/// The memory of the agent in a guest, and the time that it adds to its transport: a question to the agent and its answer, compared with as
/// many bytes that busybox' <c>cat</c> sends back. And the time of a command by the agent, compared with a program that only forks,
/// executes and answers (<c>bare.c</c>). Each runs in its own guest, alternately.
/// </summary>
internal static class AgentBench
{
    private const int Rounds = 300, BodyBytes = 64;
    private const string Echo = """
        #!/usr/lib/pandora/busybox sh
        for path in /sys/class/virtio-ports/*; do
            read -r name < $path/name
            [ "$name" != pandora.agent ] || exec 3<> /dev/${path##*/}
        done
        exec /usr/lib/pandora/busybox cat <&3 >&3

        """;

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target)
    {
        var results = new List<Result>();
        await using (var server = await BenchServer.StartAsync(target, poolSize: 1))
        {
            await using var sandbox = await server.Pandora.CreateAsync();
            var lines = (
                await sandbox.ExecAsync(
                    "pid=$(pgrep -x agent); awk '/^(VmRSS|RssAnon)/ { print $2 }' /proc/$pid/status; stat -c %s /usr/lib/pandora/agent")
            ).Stdout.Split('\n');
            results.Add(
                new Result(
                    "memory of the agent in a guest (RSS)",
                    double.Parse(lines[0]) / 1024,
                    "MiB",
                    8,
                    $"{double.Parse(lines[1]) / 1024:0.0} MiB of it private; program {double.Parse(lines[2]) / 1024 / 1024:0.0} MiB"));
        }

        if (target.Firecracker is null)
        {
            results.AddRange(await CompareAsync(target));
        }

        return results;
    }

    private static async Task<IReadOnlyList<Result>> CompareAsync(Target target)
    {
        var work = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        var names = new[] { "a", "b", "c" }.Select(n => $"pandora-bench-{Environment.ProcessId}{n}").ToList();
        try
        {
            foreach (var name in names)
            {
                await Command.RunAsync("ip", ["netns", "add", name]);
                await Command.RunAsync("ip", ["-n", name, "-batch", "-"], "tuntap add dev tap0 mode tap user 65534\nlink set tap0 up\n");
            }

            var template = new TemplateStore(target.Templates).Find(EngineOptions.DefaultTemplate)!;
            var store = new TemplateStore(Path.Combine(work, "templates"));
            var script = Path.Combine(work, "echo");
            await File.WriteAllTextAsync(script, Echo);
            var program = Path.Combine(work, "bare");
            using (var source = new StreamReader(typeof(AgentBench).Assembly.GetManifestResourceStream("bare.c")!))
            {
                await Command.RunAsync("gcc", ["-O2", "-static", "-x", "c", "-", "-o", program], await source.ReadToEndAsync());
            }

            var builder = new TemplateBuilder(store, TimeProvider.System, _ => { });
            foreach (var (name, path) in new[] { ("echo", script), ("bare", program) })
            {
                await builder.BuildAsync(
                    new TemplateSpec { Name = name, RootPath = template.RootPath, AgentPath = path }, RebuildRule.IfChanged,
                    CancellationToken.None);
            }

            using var vmm = await QemuVmm.CreateAsync(Accelerator.Auto, "the benchmark", null, TimeProvider.System, CancellationToken.None);
            using var key = await ClientKey.LoadAsync(work, CancellationToken.None);
            await using var real = await StartAsync(vmm, template, names[0], work, key);
            await using var echo = await StartAsync(vmm, store.Find("echo")!, names[1], work, key);
            var question = await CompareQuestionsAsync(real, echo);
            await using var bare = await StartAsync(vmm, store.Find("bare")!, names[2], work, key);
            return [question, await CompareCommandsAsync(real, bare)];
        }
        finally
        {
            foreach (var name in names)
            {
                await Command.RunAsync("ip", ["netns", "del", name]);
            }

            Directory.Delete(work, recursive: true);
        }
    }

    private static async Task<Result> CompareCommandsAsync(IVirtualMachine real, IVirtualMachine bare)
    {
        await using var connection = new ChannelConnection(
            await real.ConnectStreamsAsync(CancellationToken.None), "bench", TimeProvider.System, NullLogger.Instance);
        await using var guest = new AgentGuest(connection, ExecWay.Agent, TimeProvider.System);
        await using var program = await bare.ConnectStreamsAsync(CancellationToken.None);
        Latencies byAgent = new(), byProgram = new();
        for (var i = -20; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await guest.ExecAsync(new GuestCommand { Code = "true" }, CancellationToken.None);
            var agentTook = Stopwatch.GetElapsedTime(start);
            start = Stopwatch.GetTimestamp();
            await program.WriteAsync(new byte[1]);
            await program.ReadExactlyAsync(new byte[1]);
            if (i >= 0)
            {
                byAgent.Add(agentTook);
                byProgram.Add(Stopwatch.GetElapsedTime(start));
            }
        }

        return new Result(
            "exec `true` by the agent / by a bare program that forks, executes and answers, p50",
            byAgent.Percentile(50) / byProgram.Percentile(50),
            "×",
            1.2,
            $"{byAgent.Percentile(50):0.0} ms / {byProgram.Percentile(50):0.0} ms, {Rounds} each");
    }

    private static async Task<Result> CompareQuestionsAsync(IVirtualMachine real, IVirtualMachine bare)
    {
        await using var agent = await real.ConnectAgentAsync(CancellationToken.None);
        await using var echo = await bare.ConnectAgentAsync(CancellationToken.None);
        Latencies asked = new(), echoed = new();
        // The first rounds are not measured, because they wait until the guests have booted.
        for (var i = -20; i < Rounds; i++)
        {
            var question = AgentProtocol.Encode(AgentMessage.Ping, (uint)(i + 1000), new byte[BodyBytes]);
            var took = await RoundTripAsync(agent, question, (byte)AgentMessage.Pong);
            var bareTook = await RoundTripAsync(echo, question, (byte)AgentMessage.Ping);
            if (i >= 0)
            {
                asked.Add(took);
                echoed.Add(bareTook);
            }
        }

        return new Result(
            "question to the agent and back / the transport's own, p50",
            asked.Percentile(50) / echoed.Percentile(50),
            "×",
            1.5,
            $"{asked.Percentile(50):0.00} ms / {echoed.Percentile(50):0.00} ms, {BodyBytes} bytes, {Rounds} each");
    }

    private static async Task<TimeSpan> RoundTripAsync(Stream stream, byte[] question, byte expected)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        var start = Stopwatch.GetTimestamp();
        await stream.WriteAsync(question, limit.Token);
        var header = new byte[AgentProtocol.HeaderSize];
        while (true)
        {
            await stream.ReadExactlyAsync(header, limit.Token);
            var body = new byte[BitConverter.ToInt32(header, AgentProtocol.HeaderSize - sizeof(int))];
            await stream.ReadExactlyAsync(body, limit.Token);
            // A message that the agent sends at its start may come first.
            if (header[5] == expected)
            {
                return Stopwatch.GetElapsedTime(start);
            }
        }
    }

    /// <summary>Boots a microVM of a template, without a server.</summary>
    internal static async Task<IVirtualMachine> StartAsync(QemuVmm vmm, Template template, string netns, string work, ClientKey key)
    {
        var directory = Directory.CreateDirectory(Path.Combine(work, netns)).FullName;
        var (initrd, disk) = (Path.Combine(directory, "initrd"), Path.Combine(directory, "disk"));
        await GuestIdentity.Create(netns).WriteInitrdAsync(
            template.InitrdPath, initrd, key.PublicLine, 1400, useSsh: true, CancellationToken.None);
        SparseFile.Copy(template.DiskPath, disk);
        return await vmm.StartAsync(
            new VirtualMachineSpec
            {
                Id = netns,
                Directory = directory,
                KernelPath = template.KernelPath,
                InitrdPath = initrd,
                Drives = [new DriveSpec(template.RootPath, true), new DriveSpec(disk, false)],
                Network = new NetworkSpec($"/run/netns/{netns}", "tap0", "02:fc:00:00:00:02"),
                Uid = 65534,
                Channels = MicroVmLauncher.ChannelsOf(template.AgentVersion),
            },
            CancellationToken.None);
    }
}
