using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Recovery;
using Pandora.Vmm;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Commands;

/// <summary><c>doctor --leaks</c>: lists every resource of this instance on the host with its owner, and the orphans.</summary>
internal static partial class LeaksCommand
{
    public static async Task<int> RunAsync(
        EngineOptions options, VmmChoice machines, bool fix, bool asJson, CancellationToken cancellationToken)
    {
        var audit = new HostAudit(options, TimeProvider.System);
        var found = await audit.ScanTwiceAsync(cancellationToken);
        var ofMicroVms = found.Where(r => r.Kind != AuditedKind.Snapshot).ToList();
        if (fix && ofMicroVms.Count > 0 && ofMicroVms.All(r => r.Owner is null))
        {
            // No microVM runs, so everything is removed, under the lock that keeps a server from starting meanwhile.
            await PandoraEngine.CleanUpStoppedInstanceAsync(options, machines.RemoveOrphans, TimeProvider.System, cancellationToken);
            found = await audit.ScanTwiceAsync(cancellationToken);
        }

        if (fix && found.Any(r => r.Owner is null))
        {
            await audit.FixAsync(found, (orphan, why) =>
                Console.Error.WriteLine($"pandora: {Label.Of(orphan.Kind)} {orphan.Name} could not be removed: {why}"));
            found = await audit.ScanTwiceAsync(cancellationToken);
        }

        var orphans = found.Count(r => r.Owner is null);
        if (asJson)
        {
            Console.WriteLine(JsonSerializer.Serialize(found, LeaksJson.Default.IReadOnlyListAuditedResource));
            return orphans == 0 ? 0 : 1;
        }

        foreach (var group in found.OrderBy(r => r.Owner is not null).ThenBy(r => r.Owner, StringComparer.Ordinal).GroupBy(r => r.Owner))
        {
            Console.WriteLine(group.Key ?? "NO OWNER");
            foreach (var resource in group.OrderBy(r => r.Kind))
            {
                Console.WriteLine($"    {Label.Of(resource.Kind),-10} {resource.Name}");
            }
        }

        if (audit.InstanceId is null)
        {
            Console.WriteLine($"no server ever ran on {options.DataDir}");
        }
        else
        {
            var advice = orphans > 0 && !fix ? ": './pandora doctor --leaks --fix' removes them" : "";
            Console.WriteLine($"{found.Count} resources of instance {audit.InstanceId}, {orphans} without an owner{advice}");
        }

        return orphans == 0 ? 0 : 1;
    }

    [JsonSourceGenerationOptions(
        PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, UseStringEnumConverter = true)]
    [JsonSerializable(typeof(IReadOnlyList<AuditedResource>))]
    private sealed partial class LeaksJson : JsonSerializerContext;
}
