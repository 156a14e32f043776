using System.Diagnostics;
using Pandora.Engine.Guests;
using Pandora.Engine.Templates;
using Pandora.Engine;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// The time of a cold boot to the end of the first command: by the server without a warm pool, and by a bare script with the same files,
/// alternately.
/// </summary>
internal static class BootBench
{
    private const int Rounds = 7;

    public static async Task<Result> RunAsync(Target target)
    {
        await using var server = await BenchServer.StartAsync(target, poolSize: 0, settings: new() { ["PANDORA_POOL_START"] = "boot" });
        var template = new TemplateStore(target.Templates).Find(EngineOptions.DefaultTemplate)!;
        using var key = await ClientKey.LoadAsync(server.DataDir, CancellationToken.None);
        var work = Directory.CreateDirectory(Path.Combine(server.DataDir, "bare")).FullName;
        await GuestIdentity
            .Create("barebare")
            .WriteInitrdAsync(
                template.InitrdPath, Path.Combine(work, "initrd"), key.PublicLine, 1400, useSsh: true, CancellationToken.None);
        Latencies byServer = new(),
            bare = new();
        for (var i = -1; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await using (var sandbox = await server.Pandora.CreateAsync())
            {
                await sandbox.ExecAsync("true");
                if (i >= 0)
                {
                    byServer.Add(Stopwatch.GetElapsedTime(start));
                }
            }

            var elapsed = await BareScript.RunAsync(target, template, work, Path.Combine(server.DataDir, "keys/pandora"));
            if (i >= 0)
            {
                bare.Add(elapsed);
            }
        }

        var (name, limit) = target.Firecracker is null ? ("QEMU", 1.15) : ("Firecracker", 1.1);
        return new Result(
            $"cold boot to first exec / bare {name} script",
            byServer.Percentile(50) / bare.Percentile(50),
            "×",
            limit,
            $"{byServer.Percentile(50) / 1000:0.00} s / {bare.Percentile(50) / 1000:0.00} s");
    }
}
