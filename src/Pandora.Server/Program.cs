using System.CommandLine;
using System.CommandLine.Help;
using System.Net.Sockets;
using Pandora.Engine;
using Pandora.Server.Auth;
using Pandora.Server.Commands;
using Pandora.Vmm;
using Pandora.Linux;

var root = new RootCommand("The Pandora server: throw-away sandboxes in real microVMs")
{
    ServeCommand.Create(),
    TemplateCommand.Create(),
    KeyCommand.Create(),
    ProjectCommand.Create(),
    FirecrackerCommand.Create(),
    DoctorCommand.Create(),
    AuditCommand.Create(),
    TlsCommand.Create(),
    ConfigCommand.Create(),
    EndCommand.Create(),
};

try
{
    var parsed = root.Parse(args);
    if (parsed.Action is HelpAction)
    {
        // The help names the program as its user calls it, and not the file that runs.
        using var help = new StringWriter();
        await parsed.InvokeAsync(new InvocationConfiguration { Output = help });
        Console.Write(help.ToString().Replace(RootCommand.ExecutableName, "./pandora", StringComparison.Ordinal));
        return 0;
    }

    return await parsed.InvokeAsync(
        new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromSeconds(60) });
}
catch (Exception e) when (e is StartupException or VmmException or AccessFileException)
{
    Console.Error.WriteLine($"pandora: {e.Message}");
    return 1;
}
catch (Exception e) when (e is CommandException or IOException or UnauthorizedAccessException or SocketException or TimeoutException)
{
    Console.Error.WriteLine($"pandora: {e.Message}");
    return 1;
}
catch (OperationCanceledException)
{
    Console.Error.WriteLine("pandora: interrupted");
    return 130;
}
