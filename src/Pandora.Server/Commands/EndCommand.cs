using System.CommandLine;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Server.Commands;

/// <summary><c>end</c>: ends microVMs whose server no longer runs. <c>./pandora down</c> calls it.</summary>
internal static class EndCommand
{
    public static Command Create()
    {
        var command = new Command("end", "End the microVMs whose server no longer runs") { Hidden = true };
        command.SetAction(
            async (_, cancellationToken) =>
            {
                var options = Settings.Read<EngineOptions>(Settings.File());
                var machines = Settings.Read<VmmOptions>(Settings.File()).Choice(options.DataDir, options.MachineDir);
                var count = await PandoraEngine.CleanUpStoppedInstanceAsync(
                    options, machines.RemoveOrphans, TimeProvider.System, cancellationToken);
                Console.Error.WriteLine(
                    count == 0
                        ? $"no server runs on {options.DataDir}"
                        : $"no server runs on {options.DataDir}; {count} microVMs of an earlier server were ended, and nothing remains");
                return 0;
            });
        return command;
    }
}
