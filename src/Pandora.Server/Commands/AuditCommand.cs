using System.Text.Json;
using System.Text.Json.Serialization;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Recovery;
using Pandora.Vmm;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Commands;

/// <summary><c>doctor --leaks</c>: everything of this instance on the host, its owner, and what has none.</summary>
internal static partial class AuditCommand
{
    public static async Task<int> RunAsync(
        EngineOptions options, VmmChoice machines, bool fix, bool asJson, CancellationToken cancellationToken)
    {
        var audit = new HostAudit(options, TimeProvider.System);
        var found = await audit.ScanTwiceAsync(cancellationToken);
        var onlyLeft = found.Where(r => r.Kind != AuditedKind.Snapshot).ToList();
        if (fix && onlyLeft.Count > 0 && onlyLeft.All(r => r.Owner is null))
        {
            // Nothing lives, so all of it goes, under the lock that keeps a server from starting meanwhile.
            await PandoraEngine.CleanUpStoppedInstanceAsync(options, machines.RemoveOrphans, TimeProvider.System, cancellationToken);
            found = await audit.ScanTwiceAsync(cancellationToken);
        }

        if (fix && found.Any(r => r.Owner is null))
        {
            await audit.FixAsync(found, (left, why) =>
                Console.Error.WriteLine($"pandora: {Label.Of(left.Kind)} {left.Name} could not be removed: {why}"));
            found = await audit.ScanTwiceAsync(cancellationToken);
        }

        var leftovers = found.Count(r => r.Owner is null);
        if (asJson)
        {
            Console.WriteLine(JsonSerializer.Serialize(found, AuditJson.Default.IReadOnlyListAuditedResource));
            return leftovers == 0 ? 0 : 1;
        }

        foreach (var group in found.OrderBy(r => r.Owner is not null).ThenBy(r => r.Owner, StringComparer.Ordinal).GroupBy(r => r.Owner))
        {
            Console.WriteLine(group.Key ?? "NOBODY'S");
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
            var advice = leftovers > 0 && !fix ? ": './pandora doctor --leaks --fix' removes those" : "";
            Console.WriteLine($"{found.Count} resources of instance {audit.InstanceId}, {leftovers} of them nobody's{advice}");
        }

        return leftovers == 0 ? 0 : 1;
    }

    [JsonSourceGenerationOptions(
        PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, WriteIndented = true, UseStringEnumConverter = true)]
    [JsonSerializable(typeof(IReadOnlyList<AuditedResource>))]
    private sealed partial class AuditJson : JsonSerializerContext;
}
