using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Agent.Protocol;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Vmm.Host;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;
using Pandora.Linux;
using Pandora.Vmm.Qemu;

namespace Pandora.Bench;

/// <summary>
/// The steps of a restore, without the server: namespace, tap, disk, VMM, the message that gives the guest a new identity, and one
/// command by the agent. Without a jailer, NAT, records and a careful cleanup.
/// </summary>
internal static class BareRestore
{
    private const string Network = """
        link set lo up
        tuntap add dev tap0 mode tap user 65534
        addr add 172.16.0.1/30 dev tap0
        link set tap0 address 02:fc:00:00:00:01 up
        neigh replace 172.16.0.2 lladdr 02:fc:00:00:00:02 nud permanent dev tap0

        """;

    /// <summary>Restores one machine, runs <c>true</c> in it and ends it.</summary>
    /// <param name="target">The VMM to use.</param>
    /// <param name="template">The snapshot's template.</param>
    /// <param name="snapshot">Directory of the snapshot.</param>
    /// <param name="work">An empty directory, on the same file system.</param>
    /// <returns>The time to the end of the command, and the VMM's memory at that time in MiB (PSS).</returns>
    public static async Task<(TimeSpan Elapsed, double MiB)> RunAsync(
        Target target, Template template, string snapshot, string work)
    {
        var name = $"pandora-bench-{Environment.ProcessId}";
        var directory = Directory.CreateDirectory(Path.Combine(work, "bare")).FullName;
        var start = Stopwatch.GetTimestamp();
        await Command.RunAsync("ip", ["netns", "add", name]);
        ProcessHandle? vmm = null;
        try
        {
            await Command.RunAsync("ip", ["-n", name, "-batch", "-"], Network);
            await Command.RunAsync(
                "cp", ["--sparse=always", "--reflink=auto", Path.Combine(snapshot, Snapshot.DiskName), Path.Combine(directory, "disk")]);
            var spec = new VirtualMachineSpec
            {
                Id = "bare",
                Directory = directory,
                KernelPath = template.KernelPath,
                InitrdPath = "",
                Drives = [new DriveSpec(template.RootPath, true), new DriveSpec(Path.Combine(directory, "disk"), false)],
                Network = new NetworkSpec($"/run/netns/{name}", "tap0", "02:fc:00:00:00:02"),
                VcpuCount = template.VcpuCount,
                MemoryMiB = template.MemoryMiB,
                Uid = 65534,
                Channels = MicroVmLauncher.ChannelsOf(template.AgentVersion),
            };
            (vmm, var agent, var streams) = target.Firecracker is null
                ? await QemuAsync(spec, Snapshot.FilesIn(snapshot))
                : await FirecrackerAsync(spec, Snapshot.FilesIn(snapshot), target.Firecracker);
            using (agent)
            {
                var secret = await ResumeAsync(agent);
                await (streams is null ? RunTrueAsync(directory, secret) : RunTrueAsync(streams));
            }

            return (Stopwatch.GetElapsedTime(start), BenchServer.PssMiB(vmm.Pid));
        }
        finally
        {
            vmm?.Kill();
            await (vmm?.Exited ?? Task.CompletedTask);
            await Command.RunAsync("ip", ["netns", "del", name]);
            Directory.Delete(directory, recursive: true);
        }
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "the caller disposes the agent's stream, the catch block on failure")]
    private static async Task<(ProcessHandle Vmm, Stream Agent, Stream? Streams)> QemuAsync(VirtualMachineSpec spec, SnapshotFiles files)
    {
        var arguments = QemuCommandLine.Create(
            spec,
            System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture,
            useKvm: false,
            HostTsc.KiloHertz,
            canRunWith: false,
            files);
        var vmm = VmmProcess.Start(
            spec,
            VmmProcess.LogName,
            spec.Network.NamespacePath,
            [QemuCommandLine.BinaryFor(System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture), .. arguments],
            files.StatePath);
        NetworkStream? agent = null, streams = null;
        try
        {
            await using var qmp = await ConnectAsync(QemuVmm.SocketPath(spec.Directory));
            agent = await ConnectAsync(QemuVmm.AgentSocketPath(spec.Directory));
            streams = await ConnectAsync(QemuVmm.StreamsSocketPath(spec.Directory));
            await LoadAsync(qmp, spec.Directory);
            return (vmm, agent, streams);
        }
        catch
        {
            vmm.Kill();
            agent?.Dispose();
            streams?.Dispose();
            throw;
        }
    }

    // Loads the state from the descriptor that QEMU inherited, and resumes the guest.
    private static async Task LoadAsync(Stream qmp, string directory)
    {
        using var lines = new StreamReader(qmp, leaveOpen: true);
        async Task<JsonNode> AskAsync(string command)
        {
            await qmp.WriteAsync(Encoding.ASCII.GetBytes(command));
            while (true)
            {
                var answer = JsonNode.Parse(
                    await lines.ReadLineAsync() ?? throw new InvalidOperationException($"QEMU ended: {VmmProcess.ReadLog(directory)}"))!;
                if (answer["return"] is { } result)
                {
                    return result;
                }

                if (answer["error"] is { } error)
                {
                    throw new InvalidOperationException($"QEMU refused {command}: {error}");
                }
            }
        }

        await AskAsync("""{"execute":"qmp_capabilities"}""");
        await AskAsync(
            """{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"x-ignore-shared","state":true}]}}""");
        await AskAsync($"{{\"execute\":\"migrate-incoming\",\"arguments\":{{\"uri\":\"fd:{VmmProcess.InputDescriptor}\"}}}}");
        while ((await AskAsync("""{"execute":"query-status"}"""))["status"]!.GetValue<string>() == "inmigrate")
        {
            await Task.Delay(TimeSpan.FromMilliseconds(2), TimeProvider.System);
        }

        await AskAsync("""{"execute":"cont"}""");
    }

    // Runs Firecracker in a new root directory, because a snapshot contains the paths of its drives.
    private static async Task<(ProcessHandle Vmm, Stream Agent, Stream? Streams)> FirecrackerAsync(
        VirtualMachineSpec spec, SnapshotFiles files, string firecracker)
    {
        var root = Directory.CreateDirectory(Path.Combine(spec.Directory, "root")).FullName;
        await Command.RunAsync(
            "sh",
            [
                "-ec",
                """
                cd "$1"; mkdir -p run dev/net; mknod dev/kvm c 10 232; mknod dev/net/tun c 10 200
                cp "$2" firecracker; ln "$3" state; ln "$4" memory; ln "$5" drive0 || cp --reflink=auto "$5" drive0
                ln "$6" drive1; touch firecracker.log firecracker.metrics
                """,
                "bare",
                root,
                firecracker,
                files.StatePath,
                files.MemoryPath,
                spec.Drives[0].Path,
                spec.Drives[1].Path,
            ]);
        var vmm = VmmProcess.Start(
            spec,
            "console.log",
            spec.Network.NamespacePath,
            ["chroot", root, "/firecracker", "--id", spec.Id, "--api-sock", "/run/fc.sock"]);
        (await ConnectAsync(Path.Combine(root, "run/fc.sock"))).Dispose();
        using var api = new FirecrackerApi(Path.Combine(root, "run/fc.sock"), TimeSpan.FromSeconds(30), TimeProvider.System);
        await api.PutAsync(
            "/snapshot/load",
            """{"snapshot_path":"/state","mem_backend":{"backend_path":"/memory","backend_type":"File"},"resume_vm":true}"""u8.ToArray(),
            CancellationToken.None);
        return (vmm, await ConnectVsockAsync(root, AgentProtocol.VsockPort), null);
    }

    private static async Task<Stream> ConnectVsockAsync(string root, int port)
    {
        while (true)
        {
            var stream = await ConnectAsync(Path.Combine(root, FirecrackerJail.AgentName));
            await stream.WriteAsync(Encoding.ASCII.GetBytes($"CONNECT {port}\n"));
            var answer = new byte[3];
            if (await stream.ReadAtLeastAsync(answer, 3, throwOnEndOfStream: false) == 3)
            {
                while (stream.ReadByte() != '\n')
                {
                    // Skip the rest of the line.
                }

                return stream;
            }

            stream.Dispose();
        }
    }

    // Firecracker: a connection for the one command.
    private static async Task RunTrueAsync(string directory, byte[] secret)
    {
        await using var stream = await ConnectVsockAsync(Path.Combine(directory, "root"), AgentProtocol.StreamVsockPort);
        var start = new StartRequest { Id = "bare", Code = "true" }.Encode();
        await stream.WriteAsync((byte[])[.. secret, .. ProcessMessages.Encode(ProcessMessage.Start, start)]);
        var parser = new MessageParser(ProcessMessages.MaxBody);
        while (!parser.TryRead(out var kind, out _) || kind != ProcessMessage.Ended)
        {
            parser.Received(await stream.ReadAsync(parser.Room));
        }
    }

    // QEMU: one connection for all commands.
    private static async Task RunTrueAsync(Stream streams)
    {
        await using var connection = new ChannelConnection(streams, "bare", TimeProvider.System, NullLogger.Instance);
        await using var guest = new AgentGuest(connection, ExecWay.Agent, TimeProvider.System);
        await guest.ExecAsync(new GuestCommand { Code = "true" }, CancellationToken.None);
    }

    private static async Task<byte[]> ResumeAsync(Stream agent)
    {
        var identity = GuestIdentity.Create("barebarebare");
        var resume = new ResumeBody(
            (TimeProvider.System.GetUtcNow() - DateTimeOffset.UnixEpoch).Ticks * 100,
            RandomNumberGenerator.GetBytes(64),
            identity.Hostname,
            identity.MachineId,
            identity.HostKeyFile,
            identity.Secret);
        await agent.WriteAsync(AgentProtocol.Encode(AgentMessage.Resume, 1, resume.Encode()));
        var buffer = new byte[1024];
        for (var (used, length) = (0, 0); ;)
        {
            length += await agent.ReadAsync(buffer.AsMemory(length));
            while (AgentProtocol.Decode(buffer.AsSpan(used, length - used), out var frame) is var size && size > 0)
            {
                used += size;
                if (frame.Message == AgentMessage.Resumed)
                {
                    return identity.Secret;
                }
            }
        }
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "the stream disposes its socket")]
    private static async Task<NetworkStream> ConnectAsync(string path) => new(await UnixSocket.ConnectAsync(path), ownsSocket: true);
}
