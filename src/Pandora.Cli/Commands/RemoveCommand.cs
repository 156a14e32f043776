using System.CommandLine;
using Pandora.Client;

namespace Pandora.Cli.Commands;

/// <summary><c>rm</c>: end sandboxes.</summary>
internal static class RemoveCommand
{
    public static Command Create()
    {
        var ids = new Argument<string[]>("id") { Description = "Ids of sandboxes", Arity = ArgumentArity.ZeroOrMore };
        var all = new Option<bool>("--all") { Description = "All that there are" };
        var command = new Command("rm", "End sandboxes") { ids, all };
        command.SetAction(async (result, cancellationToken) =>
        {
            var named = result.GetValue(ids) ?? [];
            if (result.GetValue(all) == named.Length > 0)
            {
                throw new UsageException("name sandboxes, or say --all");
            }

            using var pandora = Shared.Connect(result);
            var targets = result.GetValue(all) ? (await pandora.ListAsync(cancellationToken: cancellationToken)).Select(s => s.SandboxId) : named;
            var failed = 0;
            foreach (var id in targets)
            {
                try
                {
                    await pandora.DeleteAsync(id, cancellationToken);
                    Console.WriteLine(id);
                }
                catch (PandoraApiException e)
                {
                    Console.Error.WriteLine($"pandora: {e.Message}");
                    failed = 1;
                }
            }

            return failed;
        });
        return command;
    }
}
