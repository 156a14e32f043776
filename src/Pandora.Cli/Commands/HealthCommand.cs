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
            foreach (var note in health.Notes)
            {
                Console.WriteLine($"note        {note}");
            }
        });
        return command;
    }
}
