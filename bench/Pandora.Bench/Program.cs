using System.CommandLine;
using System.Diagnostics;
using Pandora.Bench;
using Pandora.Load;
using Spectre.Console;

var json = new Option<FileInfo>("--json") { Description = "Write the figures to a file as well" };
var only = new Option<string>("--only")
{
    Description = "Run one part: pool, exec, growth, boot, snapshot, agent, footprint, looking, overload, adoption, walls, driver; and aged, which takes ten minutes and is not run otherwise",
};
var onVmm = new Option<string>("--vmm") { Description = "Measure on firecracker or qemu; what does not depend on it is left out with firecracker", DefaultValueFactory = _ => "qemu" }.AcceptOnlyFromAmong("firecracker", "qemu");
var readme = new Option<bool>("--readme") { Description = "Measure nothing; make the README's table anew from benchmarks/bench-*.json" };
var root = new RootCommand("Measures Pandora against references taken in the same run; about ten minutes on two cores") { json, only, onVmm, readme };
root.SetAction(async (result, cancellationToken) =>
{
    var repository = FindRepository();
    if (result.GetValue(readme))
    {
        var path = Path.Combine(repository, "README.md");
        await File.WriteAllTextAsync(path, ReadmeTable.Update(await File.ReadAllTextAsync(path, cancellationToken), Path.Combine(repository, "benchmarks")), cancellationToken);
        return 0;
    }

    // Both are bench/run's to say.
    var target = new Target(
        repository, Environment.GetEnvironmentVariable("PANDORA_TEST_TEMPLATES") ?? "/var/lib/pandora/templates",
        result.GetValue(onVmm) == "qemu" ? null : Environment.GetEnvironmentVariable("PANDORA_TEST_FIRECRACKER") ?? throw new InvalidOperationException("PANDORA_TEST_FIRECRACKER is not set: './pandora bench --vmm firecracker' finds it"));
    var results = new List<Result>();
    async Task PartAsync(string name, Func<Task<IReadOnlyList<Result>>> run)
    {
        if (result.GetValue(only) is { } wanted && wanted != name)
        {
            return;
        }

        Console.Error.WriteLine($"{name} …");
        var start = Stopwatch.GetTimestamp();
        results.AddRange((await run()).Select(r => r with { Name = target.Label + r.Name }));
        Console.Error.WriteLine($"{name}: {Stopwatch.GetElapsedTime(start).TotalSeconds:0} s");
    }

    async Task<IReadOnlyList<Result>> WithServerAsync(int poolSize, Func<BenchServer, Task<IReadOnlyList<Result>>> run)
    {
        await using var server = await BenchServer.StartAsync(target, poolSize);
        return await run(server);
    }

    await PartAsync("pool", () => WithServerAsync(4, PoolBench.RunAsync));
    await PartAsync("exec", () => WithServerAsync(2, ExecBench.RunAsync));
    await PartAsync("growth", () => WithServerAsync(2, async s => [await ExecBench.GrowthAsync(s)]));
    await PartAsync("boot", async () => [await BootBench.RunAsync(target)]);
    await PartAsync("snapshot", () => SnapshotBench.RunAsync(target));
    await PartAsync("agent", () => AgentBench.RunAsync(target));
    if (result.GetValue(only) == "aged")
    {
        await PartAsync("aged", () => AgedBench.RunAsync(target));
    }

    if (target.Firecracker is null)
    {
        await PartAsync("footprint", () => WithServerAsync(2, FootprintBench.RunAsync));
        await PartAsync("looking", () => LookingBench.RunAsync(target));
        await PartAsync("overload", OverloadBench.RunAsync);
        await PartAsync("adoption", () => AdoptionBench.RunAsync(target));
        await PartAsync("walls", () => WallBench.RunAsync(target));
    }
    else
    {
        await PartAsync("driver", async () => [await DriverBench.RunAsync(target)]);
    }

    var table = new Table().Border(TableBorder.Markdown).AddColumns("measured", "value", "wanted", "met", "from");
    foreach (var r in results)
    {
        table.AddRow(Markup.Escape(r.Name), r.Shown, r.Wanted, r.IsMet ? "yes" : "no", Markup.Escape(r.Reference));
    }

    AnsiConsole.Profile.Width = 160;
    AnsiConsole.Write(table);
    if (result.GetValue(json) is { } file)
    {
        new BenchReport(TimeProvider.System.GetUtcNow(), Machine.Describe(), results).Write(file.FullName);
    }

    return 0;
});
return await root.Parse(args).InvokeAsync();

static string FindRepository()
{
    var directory = new DirectoryInfo(AppContext.BaseDirectory);
    while (directory is not null && !File.Exists(Path.Combine(directory.FullName, "Pandora.slnx")))
    {
        directory = directory.Parent;
    }

    return directory?.FullName ?? throw new InvalidOperationException("the benchmark does not run inside the repository");
}
