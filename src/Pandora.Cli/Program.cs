using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;
using Pandora.Cli;
using Pandora.Cli.Commands;

var asJson = args.TakeWhile(a => a != "--").Contains(Shared.Json.Name);
try
{
    var root = CommandLine.Create();
    var parsed = root.Parse(CommandTail.Separate(root, args));
    if (parsed.Action is ParseErrorAction)
    {
        return Failure.Usage(parsed).Print(asJson);
    }

    if (parsed.Action is HelpAction)
    {
        // The help names the program as its user calls it, and not the file that runs.
        using var help = new StringWriter();
        await parsed.InvokeAsync(new InvocationConfiguration { Output = help });
        var examples = parsed.CommandResult.Command is DescribedCommand described ? described.ExamplesText : "";
        Console.Write((help + examples)
            .Replace(RootCommand.ExecutableName, "./pandora", StringComparison.Ordinal));
        return 0;
    }

    asJson = parsed.GetValue(Shared.Json);
    // These act on signals themselves.
    TimeSpan? limit = parsed.CommandResult.Command.Name is "run" or "exec" or "shell" or "forward" or "ssh" or "mcp"
        ? null
        : TimeSpan.FromMinutes(3);
    return await parsed.InvokeAsync(
        new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = limit });
}
catch (ClosedOutputException)
{
    return ClosedOutputException.ExitCode;
}
catch (Exception e) when (Failure.Of(e) is { } failure)
{
    return failure.Print(asJson);
}
