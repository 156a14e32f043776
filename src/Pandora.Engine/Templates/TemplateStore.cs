using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pandora.Engine.Templates;

/// <summary>
/// The templates in a directory, one directory each. A template is complete or not there: it is built beside and renamed.
/// </summary>
public sealed partial class TemplateStore(string directory)
{
    private const string Description = "template.json";

    // What a template that is being replaced is called for an instant, its name and random letters after it; and what is being built.
    private const string OldPrefix = ".old-", BuildPattern = ".build-*";

    // What the naming policy makes of MemoryMiB, and what templates of before have.
    private const string OldMemoryName = "memory_mi_b";

    /// <summary>Where they are.</summary>
    public string Root => directory;

    /// <summary>Whether a name can be a template's.</summary>
    public static bool IsName(string name) => NamePattern().IsMatch(name);

    /// <summary>Whether there is one of that name, whole or not.</summary>
    public bool Has(string name) => IsName(name) && File.Exists(Path.Combine(directory, name, Description));

    /// <summary>Reads a template, or returns null when there is none of that name.</summary>
    /// <exception cref="StartupException">It is there, but a file of it is missing or unreadable.</exception>
    public Template? Find(string name)
    {
        var template = Read(name);
        return template?.Files.FirstOrDefault(f => !File.Exists(f)) is { } missing
            ? throw new StartupException(
                $"template '{name}' is incomplete: {missing} is missing; '{TemplateOrigin.CommandFor(template!)} --force' builds it again")
            : template;
    }

    /// <summary>
    /// Reads what a template says about itself, whether or not its files are there; null when there is none of that name.
    /// </summary>
    /// <exception cref="StartupException">It is unreadable.</exception>
    internal Template? Read(string name)
    {
        if (!Has(name))
        {
            return null;
        }

        var path = Path.Combine(directory, name);
        var description = Path.Combine(path, Description);
        try
        {
            return Parse(File.ReadAllBytes(description))! with { Directory = path };
        }
        catch (JsonException e)
        {
            throw new StartupException(
                $"template '{name}': {description} is damaged, which said what it was built with: "
                + $"'./pandora template build {name} --force', with your options if it had any, builds it again", e);
        }
    }

    /// <summary>All complete templates, by name.</summary>
    public IReadOnlyList<Template> List() =>
        !Directory.Exists(directory)
            ? []
            :
            [
                .. Directory
                    .GetDirectories(directory)
                    .Select(Path.GetFileName)
                    .OfType<string>()
                    .Where(IsName)
                    .Order(StringComparer.Ordinal)
                    .Select(Find)
                    .OfType<Template>(),
            ];

    /// <summary>Puts a finished build in place of what has its name, which is moved aside first: should this end in between,
    /// <see cref="Sweep"/> puts it back.</summary>
    public void Install(Template template, string builtDirectory)
    {
        File.WriteAllBytes(
            Path.Combine(builtDirectory, Description), JsonSerializer.SerializeToUtf8Bytes(template, TemplateJson.Default.Template));
        foreach (var shared in new[] { template.KernelPath, template.RootPath })
        {
            // A jailed VMM reads them as a user of its own.
            File.SetUnixFileMode(shared, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        }

        var target = Path.Combine(directory, template.Name);
        var old = Path.Combine(directory, $"{OldPrefix}{template.Name}-{Path.GetRandomFileName()}");
        if (Directory.Exists(target))
        {
            // Running microVMs keep the old files open until they end.
            Directory.Move(target, old);
        }

        Directory.Move(builtDirectory, target);
        if (Directory.Exists(old))
        {
            Directory.Delete(old, recursive: true);
        }
    }

    /// <summary>Removes a template once nobody builds; false when there is none of that name.</summary>
    /// <param name="name">Its name.</param>
    /// <param name="time">Clock of the waiting.</param>
    /// <param name="report">Takes a line for each that is waited for.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<bool> RemoveAsync(string name, TimeProvider time, Action<string> report, CancellationToken cancellationToken)
    {
        if (!IsName(name) || !Directory.Exists(directory))
        {
            return false;
        }

        using var held = await TemplateLock.AcquireAsync(directory, $"removes template '{name}'", time, report, cancellationToken);
        // Or what is removed now would be put back by the next build.
        Sweep();
        var path = Path.Combine(directory, name);
        if (!Directory.Exists(path))
        {
            return false;
        }

        Directory.Delete(path, recursive: true);
        return true;
    }

    /// <summary>Removes what a process left that was killed while it built, and puts back the template that it had moved aside. Under the
    /// lock only.</summary>
    internal void Sweep()
    {
        foreach (var old in Directory.GetDirectories(directory, OldPrefix + "*"))
        {
            var name = Path.GetFileName(old)[OldPrefix.Length..];
            name = name[..Math.Max(0, name.LastIndexOf('-'))];
            if (IsName(name) && !Directory.Exists(Path.Combine(directory, name)))
            {
                Directory.Move(old, Path.Combine(directory, name));
            }
            else
            {
                Directory.Delete(old, recursive: true);
            }
        }

        foreach (var unfinished in Directory.GetDirectories(directory, BuildPattern))
        {
            Directory.Delete(unfinished, recursive: true);
        }
    }

    private static Template? Parse(byte[] json)
    {
        var described = JsonNode.Parse(json, documentOptions: new JsonDocumentOptions { AllowDuplicateProperties = false }) as JsonObject
            ?? throw new JsonException("it is no object");
        if (described.Remove(OldMemoryName, out var memory))
        {
            described.TryAdd("memory_mib", memory);
        }

        return described.Deserialize(TemplateJson.Default.Template);
    }

    [GeneratedRegex("^[a-z0-9][a-z0-9-]{0,62}\\z")]
    private static partial Regex NamePattern();
}
