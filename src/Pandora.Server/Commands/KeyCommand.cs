using System.CommandLine;
using System.Globalization;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Engine.Telemetry;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Server.Commands;

/// <summary><c>key create | list | revoke</c>: manages the keys of clients. A running server uses a change at once.</summary>
internal static class KeyCommand
{
    // Names of the keys that are not in the file.
    private static readonly string[] Taken = ["cli", "metrics-key"];

    public static Command Create()
    {
        var command = new Command("key", "Create, list and revoke the keys with which clients use the server")
        {
            CreateCreate(), CreateList(), CreateRevoke(),
        };
        return command;
    }

    private static Command CreateCreate()
    {
        var project = new Option<string>("--project")
        {
            Description = "Project of the key: './pandora project create' makes one",
            DefaultValueFactory = _ => Project.DefaultName,
        };
        var role = new Option<string>("--role")
        {
            Description = "admin (everything, in all projects), user (the sandboxes of its project) or metrics (/metrics only)",
            DefaultValueFactory = _ => Label.Of(KeyRole.User),
        };
        role.AcceptOnlyFromAmong([.. Label.All<KeyRole>()]);
        var name = new Option<string>("--name") { Description = "Name of the key in lists and in the audit. Default: its id" };
        var expires = new Option<DateTimeOffset?>("--expires")
        {
            Description = "When it ends: after a time such as 12h or 30d, or at a moment such as 2027-01-31 or 2027-01-31T12:00Z (UTC). "
                + "Default: never",
            CustomParser = result => Moments.Parse(result, TimeProvider.System, isAhead: true),
        };
        var e2b = new Option<bool>("--e2b") { Description = "Make a key of the form that E2B's clients demand: e2b_ and 40 digits" };
        var create = new Command(
            "create", "Create a key and print it. It is shown once, and is valid at once. With the first key, every request needs one")
        {
            project, role, name, expires, e2b,
        };
        create.SetAction(async (result, cancellationToken) =>
        {
            var (store, isFirst) = (OpenStore(), false);
            var (key, hash, id) = NewKey(result.GetValue(e2b), (Read(store)).Keys);
            await store.ChangeAsync(file =>
            {
                var entry = new KeyEntry(
                    id, result.GetValue(name) ?? id, result.GetRequiredValue(project),
                    Enum.Parse<KeyRole>(result.GetRequiredValue(role), ignoreCase: true), hash,
                    TimeProvider.System.GetUtcNow(), result.GetValue(expires));
                Check(entry, file);
                isFirst = !file.NeedsKey;
                return file with { NeedsKey = true, Keys = [.. file.Keys, entry] };
            }, TimeProvider.System, cancellationToken);
            Console.WriteLine(key);
            Console.Error.WriteLine(
                $"key {id} of project {result.GetValue(project)}, role {result.GetValue(role)}; it is not shown again");
            if (isFirst)
            {
                Console.Error.WriteLine(
                    "from now on every request needs a key; './pandora' as root on this host has one of its own");
            }

            return 0;
        });
        return create;
    }

    private static Command CreateList()
    {
        var project = new Option<string>("--project") { Description = "Only the keys of this project" };
        var list = new Command("list", "List the keys, without their secrets") { project };
        list.Aliases.Add("ls");
        list.SetAction(result =>
        {
            var store = OpenStore();
            var (file, uses) = (Read(store), KeyUsesFile.Read(store));
            var now = TimeProvider.System.GetUtcNow();
            var rows = file.Keys.Where(k => result.GetValue(project) is not { } wanted || k.Project == wanted).ToList();
            Console.WriteLine($"{"ID",-9} {"NAME",-20} {"PROJECT",-20} {"ROLE",-8} {"CREATED",-17} {"EXPIRES",-17} LAST USE");
            foreach (var key in rows)
            {
                var isOver = key.Expires <= now || uses.Expired.Contains(key.Id);
                var last = uses.LastUses.TryGetValue(key.Id, out var at) ? Shown(at) : "-";
                Console.WriteLine(
                    $"{key.Id,-9} {key.Name,-20} {key.Project,-20} {Label.Of(key.Role),-8} {Shown(key.Created),-17} "
                        + $"{(isOver ? "expired" : Shown(key.Expires)),-17} {last}");
            }

            Console.Error.WriteLine(
                $"{Count(rows.Count)}; times are UTC, and a last use appears within {Access.UsesInterval.TotalSeconds:0} s");
            return 0;
        });
        return list;
    }

    private static Command CreateRevoke()
    {
        var names = new Argument<string[]>("key") { Description = "Id or name of a key, one or more", Arity = ArgumentArity.OneOrMore };
        var revoke = new Command(
            "revoke", "Revoke keys: they open nothing any more, and what they opened ends within seconds. Sandboxes live on") { names };
        revoke.SetAction(async (result, cancellationToken) =>
        {
            var left = 0;
            await OpenStore().ChangeAsync(file =>
            {
                var gone = result.GetRequiredValue(names).Select(n => file.Keys.FirstOrDefault(k => k.Id == n || k.Name == n)
                    ?? throw new StartupException($"there is no key '{n}', and no key was revoked: './pandora key list' lists the keys"));
                var kept = file.Keys.Except(gone.ToList()).ToList();
                left = kept.Count;
                return file with { Keys = kept };
            }, TimeProvider.System, cancellationToken);
            Console.Error.WriteLine(
                left > 0
                    ? $"revoked; left: {Count(left)}"
                    : $"revoked; no key is left, and requests still need one: './pandora' as root on this host works. To let every program "
                        + $"on this host in again, set needs_key to false in {OpenStore().Path} and restart the server");
            return 0;
        });
        return revoke;
    }

    private static (string Key, string Hash, string Id) NewKey(bool isE2b, IReadOnlyList<KeyEntry> others)
    {
        while (true)
        {
            var key = Key.Create(isE2b);
            var hash = Convert.ToHexStringLower(Key.HashOf(key));
            if (others.All(o => o.Id != hash[..Key.IdLength]))
            {
                return (key, hash, hash[..Key.IdLength]);
            }
        }
    }

    private static void Check(KeyEntry entry, AccessFile file)
    {
        if (file.FindProject(entry.Project) is null)
        {
            throw new StartupException(
                $"there is no project '{entry.Project}', and no key was made: './pandora project create {entry.Project}' makes it");
        }

        if (entry.Name.Length is 0 or > 64 || !entry.Name.All(c => char.IsAsciiLetterOrDigit(c) || c is '-' or '_' or '.' or '@'))
        {
            throw new StartupException("--name must be 1 to 64 letters, digits, hyphens, underscores, dots or @");
        }

        if (Taken.Contains(entry.Name) || entry.Name.StartsWith("api-keys-", StringComparison.Ordinal)
            || file.Keys.Any(k => k.Name == entry.Name || k.Id == entry.Name || k.Id == entry.Id || k.Name == entry.Id))
        {
            throw new StartupException($"there is a key '{entry.Name}' already: choose another --name");
        }
    }

    private static AccessFile Read(AccessStore store) => store.Read() ?? new AccessFile();

    private static AccessStore OpenStore() => new(Settings.Read<EngineOptions>(Settings.File()).DataDir);

    private static string Count(int keys) => keys == 1 ? "1 key" : $"{keys} keys";

    private static string Shown(DateTimeOffset? moment) =>
        moment?.UtcDateTime.ToString("yyyy-MM-dd HH:mm", CultureInfo.InvariantCulture) ?? "never";
}
