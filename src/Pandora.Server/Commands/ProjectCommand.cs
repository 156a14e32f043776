using System.CommandLine;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Projects;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Server.Commands;

/// <summary>
/// <c>project create | set | list | rm</c>: manages the projects and their bounds. A running server uses a change within a second.
/// </summary>
internal static class ProjectCommand
{
    public static Command Create() => new("project", "Create, change, list and remove projects, and set what each may use")
    {
        CreateCreate(), CreateSet(), CreateList(), CreateRemove(),
    };

    private static Command CreateCreate()
    {
        var (name, bounds) = (NameArgument(), new Bounds());
        var create = new Command("create", "Create a project. Its keys see only its sandboxes") { name };
        bounds.AddTo(create);
        create.SetAction((result, cancellationToken) => ChangeAsync(result.GetRequiredValue(name), (wanted, file) =>
        {
            if (!TemplateStore.IsName(wanted))
            {
                throw new StartupException($"'{wanted}' is no name of a project: lower-case letters, digits and hyphens, at most 63");
            }

            return file.FindProject(wanted) is not null
                ? throw new StartupException($"there is a project '{wanted}' already: './pandora project set {wanted}' changes it")
                : file with { Projects = [.. file.Projects, bounds.Apply(result, new Project(wanted))] };
        }, cancellationToken));
        return create;
    }

    private static Command CreateSet()
    {
        var (name, bounds) = (NameArgument(), new Bounds());
        var set = new Command(
            "set", "Change the bounds of a project; a value of 'none' removes a bound. Sandboxes that exist are not ended by a new quota")
        {
            name,
        };
        bounds.AddTo(set);
        set.SetAction((result, cancellationToken) => ChangeAsync(result.GetRequiredValue(name), (wanted, file) =>
        {
            var project = Find(file, wanted);
            return file with
            {
                Projects = [.. file.Projects.Where(p => p.Name != wanted), bounds.Apply(result, project)],
            };
        }, cancellationToken));
        return set;
    }

    private static Command CreateList()
    {
        var list = new Command("list", "List the projects and their bounds");
        list.Aliases.Add("ls");
        list.SetAction(_ =>
        {
            var file = OpenStore().Read() ?? new AccessFile();
            Console.WriteLine(
                $"{"NAME",-20} {"KEYS",5} {"SANDBOXES",9} {"VCPUS",6} {"MEMORY",9} {"LIFETIME",9} {"EGRESS",-9} {"AUDIT",-9} TEMPLATES");
            foreach (var p in file.Projects.Where(p => p.Name != Project.DefaultName).Prepend(file.FindProject(Project.DefaultName)!))
            {
                Console.WriteLine(
                    $"{p.Name,-20} {file.Keys.Count(k => k.Project == p.Name),5} {Or(p.MaxSandboxes),9} {Or(p.MaxVcpus),6} "
                        + $"{Or(p.MaxMemoryMib, " MiB"),9} {Or(p.MaxLifetime, " s"),9} "
                        + $"{(p.Egress is { } egress ? Label.Of(egress) : "-"),-9} {(p.AuditsCommands ? "commands" : "-"),-9} "
                        + (p.Templates is { } templates ? string.Join(',', templates) : "all"));
            }
        });
        return list;
    }

    private static Command CreateRemove()
    {
        var name = NameArgument();
        var remove = new Command("rm", "Remove a project that has no keys. Its sandboxes live on, for admins to see, until they end")
        {
            name,
        };
        remove.SetAction((result, cancellationToken) => ChangeAsync(result.GetRequiredValue(name), (wanted, file) =>
        {
            Find(file, wanted);
            if (wanted == Project.DefaultName)
            {
                throw new StartupException("the default project cannot be removed");
            }

            return file.Keys.Count(k => k.Project == wanted) is > 0 and var keys
                ? throw new StartupException($"project '{wanted}' has {keys} keys: './pandora key revoke' them first")
                : file with { Projects = [.. file.Projects.Where(p => p.Name != wanted)] };
        }, cancellationToken));
        return remove;
    }

    private static async Task<int> ChangeAsync(
        string name, Func<string, AccessFile, AccessFile> change, CancellationToken cancellationToken)
    {
        await OpenStore().ChangeAsync(file => change(name, file), TimeProvider.System, cancellationToken);
        return 0;
    }

    private static Project Find(AccessFile file, string name) => file.FindProject(name)
        ?? throw new StartupException($"there is no project '{name}': './pandora project list' lists them");

    private static Argument<string> NameArgument() =>
        new("name") { Description = "Name of the project: lower-case letters, digits, hyphens" };

    private static AccessStore OpenStore() => new(Settings.Read<EngineOptions>(Settings.File()).DataDir);

    private static string Or(object? value, string unit = "") => value is null ? "-" : FormattableString.Invariant($"{value}{unit}");

    /// <summary>The options that set bounds. 'none' removes one.</summary>
    private sealed class Bounds
    {
        private readonly Option<string> _sandboxes = new("--max-sandboxes") { Description = "Quota: most sandboxes at once, 0 to 4096" };
        private readonly Option<string> _vcpus = new("--max-vcpus") { Description = "Quota: most virtual CPUs of its sandboxes together" };
        private readonly Option<string> _memory = new("--max-memory")
        {
            Description = "Quota: most memory of its sandboxes together, in MiB",
        };

        private readonly Option<string> _lifetime = new("--max-lifetime")
        {
            Description = "Ceiling: most seconds that a sandbox may live, at least 60",
        };

        private readonly Option<string> _egress = new("--egress")
        {
            Description = "Ceiling: the most that a sandbox may reach, internet or none",
        };

        private readonly Option<string> _templates = new("--templates")
        {
            Description = "Ceiling: templates that sandboxes may start from, comma-separated; 'all' removes the bound",
        };

        private readonly Option<string> _audit = new("--audit-commands")
        {
            Description = "Whether the audit contains the text of commands: true or false. Texts may contain secrets",
        };

        public void AddTo(Command command)
        {
            foreach (var option in new[] { _sandboxes, _vcpus, _memory, _lifetime, _egress, _templates, _audit })
            {
                command.Options.Add(option);
            }
        }

        public Project Apply(ParseResult result, Project project) => project with
        {
            MaxSandboxes = Number(result, _sandboxes, 0, 4096, project.MaxSandboxes),
            MaxVcpus = Number(result, _vcpus, 0, 1_000_000, project.MaxVcpus),
            MaxMemoryMib = Number(result, _memory, 0, int.MaxValue, project.MaxMemoryMib),
            MaxLifetime = Number(result, _lifetime, 60, 31_536_000, (int?)project.MaxLifetime),
            Egress = EgressOf(result, project.Egress),
            Templates = TemplatesOf(result, project.Templates),
            AuditsCommands = result.GetValue(_audit) switch
            {
                null => project.AuditsCommands,
                "true" => true,
                "false" => false,
                var other => throw new StartupException($"--audit-commands: '{other}' is not true or false"),
            },
        };

        private static int? Number(ParseResult result, Option<string> option, int least, int most, int? before)
        {
            return result.GetValue(option) switch
            {
                null => before,
                "none" => null,
                var text when int.TryParse(text, out var number) && number >= least && number <= most => number,
                var text => throw new StartupException($"{option.Name}: '{text}' is not a whole number from {least} to {most}, or 'none'"),
            };
        }

        // Here 'none' is a value, and 'internet' is no bound besides the server's.
        private Egress? EgressOf(ParseResult result, Egress? before) => result.GetValue(_egress) switch
        {
            null => before,
            "none" => Engine.Egress.None,
            "internet" => Engine.Egress.Internet,
            var text => throw new StartupException($"--egress: '{text}' is not internet or none"),
        };

        private IReadOnlyList<string>? TemplatesOf(ParseResult result, IReadOnlyList<string>? before)
        {
            if (result.GetValue(_templates) is not { } text)
            {
                return before;
            }

            var names = text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            if (names is ["none"])
            {
                throw new StartupException("--templates: 'all' removes the bound; a template cannot be named here as 'none'");
            }

            if (names is ["all"])
            {
                return null;
            }

            return names.FirstOrDefault(n => !TemplateStore.IsName(n) || n.Length > Limits.MaxTemplateLength) is { } wrong
                ? throw new StartupException($"--templates: '{wrong}' is no name of a template")
                : names;
        }
    }
}
