using System.CommandLine;
using Pandora.Client;

namespace Pandora.Cli.Commands;

/// <summary><c>rm</c>: end sandboxes.</summary>
internal static class RemoveCommand
{
    public static Command Create()
    {
        var ids = new Argument<string[]>("id") { Description = "Ids of sandboxes", HelpName = "id", Arity = ArgumentArity.ZeroOrMore };
        var all = new Option<bool>("--all") { Description = "All that there are" };
        Shared.RefuseOptions(ids);
        ids.CompletionSources.Add(Suggestions.SandboxIds);
        var command = new Command("rm", "End sandboxes and print their ids. Exit code 1: one of them could not be ended") { ids, all };
        command.SetAction(async (result, cancellationToken) =>
        {
            var named = result.GetValue(ids) ?? [];
            if (result.GetValue(all) == named.Length > 0)
            {
                throw new UsageException("name sandboxes, or say --all");
            }

            var asJson = result.GetValue(Shared.Json);
            using var pandora = Shared.Connect(result);
            var ended = new List<string>();
            var targets = result.GetValue(all) ? (await pandora.ListAsync(null, cancellationToken)).Select(s => s.Id) : named;
            var failed = 0;
            try
            {
                foreach (var id in targets)
                {
                    try
                    {
                        await pandora.DeleteAsync(id, cancellationToken);
                        ended.Add(id);
                        if (!asJson)
                        {
                            Console.WriteLine(id);
                        }
                    }
                    catch (PandoraApiException e)
                    {
                        Failure.Of(e)!.Print(asJson);
                        failed = 1;
                    }
                }
            }
            finally
            {
                // The ids of ended sandboxes are printed also when the server goes away or Ctrl-C comes in between.
                if (asJson)
                {
                    Shared.PrintJson([.. ended], CliJson.Default.StringArray);
                }
            }

            return failed;
        });
        return command;
    }
}
