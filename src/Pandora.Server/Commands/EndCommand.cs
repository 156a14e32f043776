using System.CommandLine;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Server.Commands;

/// <summary><c>end</c>: what <c>./pandora down</c> does where no server runs any more but microVMs do.</summary>
internal static class EndCommand
{
    public static Command Create()
    {
        var command = new Command("end", "End the microVMs that outlived their server") { Hidden = true };
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
                        : $"no server ran; {count} microVMs of an earlier one were ended, and nothing is left");
                return 0;
            });
        return command;
    }
}
