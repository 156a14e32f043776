using System.CommandLine;
using Pandora.Contracts;

namespace Pandora.Cli.Commands;

/// <summary><c>health</c>: the server's state.</summary>
internal static class HealthCommand
{
    public static Command Create()
    {
        var command = new Command("health", "Show the server's state");
        command.SetAction(async (result, cancellationToken) =>
        {
            using var pandora = Shared.Connect(result);
            var health = await pandora.Api.GetHealthAsync(cancellationToken);
            if (result.GetValue(Shared.Json))
            {
                Shared.PrintJson(health, PandoraJson.Default.Health);
                return;
            }

            Console.WriteLine($"""
                status      {health.Status}, version {health.Version}, instance {health.Instance}
                warm        {health.WarmVms} of {health.PoolSize}
                sandboxes   {health.ActiveSandboxes} of at most {health.MaxSandboxes}
                VMM         {health.Vmm}
                isolation   {health.Isolation}
                timeouts    commands at most {health.MaxTimeout:0} s, idle at most {health.MaxIdleTimeout:0} s
                """);
            foreach (var line in Lines(health.Capacity).Concat(Lines(health.Project)))
            {
                Console.WriteLine(line);
            }

            foreach (var note in health.Notes)
            {
                Console.WriteLine($"note        {note}");
            }
        });
        return command;
    }

    private static IEnumerable<string> Lines(HealthCapacity? capacity) => capacity is null ? [] :
    [
        $"memory      {capacity.UsedMemoryMib} of {capacity.MemoryMib} MiB in sandboxes, {capacity.HeldMemoryMib} MiB in all microVMs",
        $"vCPUs       {capacity.UsedVcpus} of {capacity.Vcpus} in sandboxes, {capacity.HeldVcpus} in all microVMs",
    ];

    private static IEnumerable<string> Lines(HealthProject? project)
    {
        if (project is null)
        {
            yield break;
        }

        yield return $"project     {project.Name}: sandboxes {Of(project.Sandboxes, project.MaxSandboxes)}, "
            + $"vCPUs {Of(project.Vcpus, project.MaxVcpus)}, memory {Of(project.MemoryMib, project.MaxMemoryMib)} MiB";
        string?[] bounds =
        [
            project.MaxLifetime is { } seconds ? $"a sandbox lives at most {seconds:0} s" : null,
            project.Egress is { } egress ? $"egress at most {egress}" : null,
            project.Templates is { } templates ? $"templates {string.Join(", ", templates)}" : null,
        ];
        if (bounds.Any(b => b is not null))
        {
            yield return $"            {string.Join("; ", bounds.Where(b => b is not null))}";
        }
    }

    private static string Of(long used, int? most) => most is null ? $"{used}" : $"{used} of at most {most}";
}
