using System.CommandLine;
using System.CommandLine.Invocation;
using Pandora.Cli;

var asJson = args.TakeWhile(a => a != "--").Contains(Shared.Json.Name);
try
{
    var root = CommandLine.Create();
    var parsed = root.Parse(CommandTail.Separate(root, args));
    if (parsed.Action is ParseErrorAction)
    {
        return Failure.Usage(parsed).Print(asJson);
    }

    asJson = parsed.GetValue(Shared.Json);
    // These act on signals themselves.
    TimeSpan? limit = parsed.CommandResult.Command.Name is "run" or "exec" or "shell" ? null : TimeSpan.FromMinutes(3);
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
