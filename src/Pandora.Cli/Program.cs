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
    return await parsed.InvokeAsync(
        new InvocationConfiguration { EnableDefaultExceptionHandler = false, ProcessTerminationTimeout = TimeSpan.FromMinutes(3) });
}
catch (Exception e) when (Failure.Of(e) is { } failure)
{
    return failure.Print(asJson);
}
