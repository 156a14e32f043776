using System.Diagnostics;
using System.Text;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Templates;
using Pandora.Engine;
using Pandora.Load;
using Pandora.Vmm.Host;
using Pandora.Vmm;
using Pandora.Vmm.Firecracker;
using Pandora.Linux;

namespace Pandora.Bench;

/// <summary>
/// The time that the driver adds to the calls of Firecracker's API: all calls of a start by the driver with a jailed Firecracker, compared
/// with the same bytes written to the socket of an unjailed one, alternately.
/// </summary>
internal static class DriverBench
{
    private const int Rounds = 15;

    public static async Task<Result> RunAsync(Target target)
    {
        var name = $"pandora-bench-{Environment.ProcessId}";
        var work = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        await Command.RunAsync("ip", ["netns", "add", name]);
        try
        {
            await Command.RunAsync("ip", ["-n", name, "-batch", "-"], "tuntap add dev tap0 mode tap user 0\nlink set tap0 up\n");
            return await RunAsync(target, name, work);
        }
        finally
        {
            await Command.RunAsync("ip", ["netns", "del", name]);
            new VmmOptions().Choice(work, Path.Combine(work, "jail")).RemoveOrphans(new HashSet<string>());
            Directory.Delete(work, recursive: true);
        }
    }

    private static async Task<Result> RunAsync(Target target, string name, string work)
    {
        var template = new TemplateStore(target.Templates).Find(EngineOptions.DefaultTemplate)!;
        using var key = await ClientKey.LoadAsync(work, CancellationToken.None);
        var initrd = Path.Combine(work, "initrd");
        await GuestIdentity.Create("benchvms").WriteInitrdAsync(
            template.InitrdPath, initrd, key.PublicLine, 1400, useSsh: true, CancellationToken.None);
        var binaries = await FirecrackerBinaries.FindAsync(
            target.Firecracker!, Path.Combine(Path.GetDirectoryName(target.Firecracker)!, "jailer"), CancellationToken.None);
        using var vmm = new FirecrackerVmm(binaries, Path.Combine(work, "jail"), "the benchmark", TimeProvider.System);
        VirtualMachineSpec Spec(int round)
        {
            var directory = Directory.CreateDirectory(Path.Combine(work, $"machine{round}")).FullName;
            SparseFile.Copy(template.DiskPath, Path.Combine(directory, "disk"));
            return new VirtualMachineSpec
            {
                Id = $"bench{round}",
                Directory = directory,
                KernelPath = template.KernelPath,
                InitrdPath = initrd,
                KernelArguments = template.KernelArguments ?? "",
                Drives = [new DriveSpec(template.RootPath, true), new DriveSpec(Path.Combine(directory, "disk"), false)],
                Network = new NetworkSpec($"/run/netns/{name}", "tap0", "02:fc:00:00:00:02"),
                Uid = 0,
                Channels = MicroVmLauncher.ChannelsOf(template.AgentVersion),
            };
        }

        Latencies driver = new(), bare = new();
        for (var i = 0; i < Rounds * 2; i += 2)
        {
            driver.AddMs(await ByDriverAsync(vmm, Spec(i)));
            bare.AddMs(await BareAsync(binaries.Firecracker, Spec(i + 1), Path.Combine(work, "bare.sock")));
        }

        return new Result(
            "what the driver adds to the API's calls of a start, p50",
            driver.Percentile(50) - bare.Percentile(50),
            "ms",
            5,
            $"{driver.Percentile(50):0.0} ms, {bare.Percentile(50):0.0} ms bare");
    }

    // Adds the spans of all steps that call the API, from the first call to the one that starts the guest.
    private static async Task<double> ByDriverAsync(FirecrackerVmm vmm, VirtualMachineSpec spec)
    {
        var sum = TimeSpan.Zero;
        using var listener = new ActivityListener
        {
            ShouldListenTo = s => s.Name == FirecrackerVmm.TraceSourceName,
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllData,
            ActivityStopped = a =>
                sum += a.OperationName is "firecracker.jail" or "firecracker.process" or "firecracker.socket" or "firecracker.seccomp"
                    ? TimeSpan.Zero
                    : a.Duration,
        };
        ActivitySource.AddActivityListener(listener);
        await using var machine = await vmm.StartAsync(spec, CancellationToken.None);
        return sum.TotalMilliseconds;
    }

    private static async Task<double> BareAsync(string firecracker, VirtualMachineSpec spec, string socketPath)
    {
        File.Delete(socketPath);
        var (log, metrics) = (Path.Combine(spec.Directory, "log"), Path.Combine(spec.Directory, "metrics"));
        await File.WriteAllTextAsync(log, "");
        await File.WriteAllTextAsync(metrics, "");
        var paths = new FirecrackerPaths(
            spec.KernelPath,
            spec.InitrdPath,
            [.. spec.Drives.Select(d => d.Path)],
            log,
            metrics,
            Path.Combine(spec.Directory, "agent.sock"));
        var requests = FirecrackerBoot
            .Calls(spec, paths, System.Runtime.InteropServices.RuntimeInformation.ProcessArchitecture)
            .Select(c =>
                (byte[])
                    [
                        .. Encoding.ASCII.GetBytes(
                            $"PUT {c.Path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: "
                                + $"{c.Body.Length}\r\n\r\n"),
                        .. c.Body,
                    ])
            .ToList();
        using var process = VmmProcess.Start(
            spec, "console.log", spec.Network.NamespacePath, [firecracker, "--id", spec.Id, "--api-sock", socketPath]);
        try
        {
            using var socket = await UnixSocket.ConnectAsync(socketPath);
            var answer = new byte[4096];
            var sum = TimeSpan.Zero;
            foreach (var request in requests)
            {
                var start = Stopwatch.GetTimestamp();
                await socket.SendAsync(request);
                var read = await socket.ReceiveAsync(answer);
                sum += Stopwatch.GetElapsedTime(start);
                if (!Encoding.ASCII.GetString(answer, 0, read).StartsWith("HTTP/1.1 204", StringComparison.Ordinal))
                {
                    throw new InvalidOperationException($"Firecracker refused: {Encoding.ASCII.GetString(answer, 0, read)}");
                }
            }

            return sum.TotalMilliseconds;
        }
        finally
        {
            process.Kill();
            await process.Exited;
        }
    }
}
