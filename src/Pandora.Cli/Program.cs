using System.CommandLine;
using Pandora.Cli;
using Pandora.Cli.Commands;
using Pandora.Client;

var root = new RootCommand("Throw-away sandboxes in real microVMs")
{
    RunCommand.Create(),
    CreateCommand.Create(),
    ExecCommand.Create(),
    ListCommand.Create(),
    RemoveCommand.Create(),
    HealthCommand.Create(),
    StressCommand.Create(),
};
root.Options.Add(Shared.Url);
root.Options.Add(Shared.Json);

try
{
    return await root.Parse(CommandTail.Separate(args)).InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromMinutes(3) });
}
catch (Exception e) when (e is PandoraApiException or ServerUnreachableException or UsageException)
{
    Console.Error.WriteLine($"pandora: {e.Message}");
    return Shared.ExitFailed;
}
catch (OperationCanceledException)
{
    Console.Error.WriteLine("pandora: interrupted; the command was killed and its sandbox ended");
    return 130;
}
