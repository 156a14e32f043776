using NetArchTest.Rules;
using Pandora.Engine.Node;

namespace Pandora.Tests;

/// <summary>The layout of the design: which folders, assemblies and types may refer to which.</summary>
public sealed class LayoutTests
{
    private const string Engine = "Pandora.Engine";

    [Fact]
    public void Folders_of_the_engine_do_not_refer_to_each_other_in_circles()
    {
        var folders = typeof(PandoraEngine).Assembly.GetTypes().Select(t => t.Namespace ?? "")
            .Where(n => n.StartsWith($"{Engine}.", StringComparison.Ordinal)).Select(n => n.Split('.')[2]).Distinct().Order().ToList();
        Assert.Contains("Sandboxes", folders);
        var uses = folders.ToDictionary(f => f, f => folders.Where(o => o != f && Refers(f, o)).ToList());
        Assert.Contains("Pools", uses["Sandboxes"]);
        // Removes, again and again, the folders that use none of the others. The rest is in a circle or uses one.
        var rest = folders.ToList();
        while (rest.Where(f => !uses[f].Intersect(rest).Any()).ToList() is { Count: > 0 } done)
        {
            rest.RemoveAll(done.Contains);
        }

        Assert.True(rest.Count == 0, string.Join("; ", rest.Select(f => $"{f} uses {string.Join(", ", uses[f].Intersect(rest))}")));
    }

    [Fact]
    public void The_root_of_the_engine_refers_to_no_folder_but_telemetry()
    {
        var types = Types.InAssembly(typeof(PandoraEngine).Assembly).That().ResideInNamespaceMatching($"^{Engine}$").GetTypes();
        Assert.NotEmpty(types);
        var folders = new[] { "Guests", "MicroVms", "Networking", "Node", "Pools", "Recovery", "Sandboxes", "Snapshots", "Templates" };
        Assert.Empty(Types.InAssembly(typeof(PandoraEngine).Assembly).That().ResideInNamespaceMatching($"^{Engine}$")
            .And().HaveDependencyOnAny([.. folders.Select(f => $"{Engine}.{f}")]).GetTypes().Select(t => t.FullName));
    }

    [Fact]
    public void The_engine_names_no_driver_and_no_wire_type() =>
        Assert.Empty(Types.InAssembly(typeof(PandoraEngine).Assembly).That()
            .HaveDependencyOnAny("Pandora.Vmm.Firecracker", "Pandora.Vmm.Qemu", "Pandora.Contracts").GetTypes().Select(t => t.FullName));

    [Fact]
    public void The_API_names_no_microVM_no_slot_and_no_teardown() =>
        Assert.Empty(Types.InAssembly(typeof(Pandora.Server.Api.Problems).Assembly).That().ResideInNamespace("Pandora.Server.Api")
            .And().HaveDependencyOnAny("Pandora.Engine.MicroVms", "Pandora.Engine.Networking", "Pandora.Engine.Pools").GetTypes()
            .Select(t => t.FullName));

    private static bool Refers(string folder, string other) =>
        Types.InAssembly(typeof(PandoraEngine).Assembly).That().ResideInNamespace($"{Engine}.{folder}")
            .And().HaveDependencyOnAny($"{Engine}.{other}").GetTypes().Any();
}
