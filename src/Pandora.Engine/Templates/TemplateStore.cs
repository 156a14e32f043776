using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;

namespace Pandora.Engine.Templates;

/// <summary>
/// The templates in a directory, one subdirectory each. A template is either complete or absent: it is built under another name and then
/// renamed.
/// </summary>
public sealed partial class TemplateStore(string directory)
{
    private const string Description = "template.json";

    // Prefix of a template that is being replaced, before its name and random letters; pattern of unfinished builds.
    private const string OldPrefix = ".old-", BuildPattern = ".build-*";

    // The naming policy's name for MemoryMiB, which templates of earlier versions have.
    private const string OldMemoryName = "memory_mi_b";

    /// <summary>The directory of the templates.</summary>
    public string Root => directory;

    /// <summary>Whether a name is valid for a template.</summary>
    public static bool IsName(string name) => NamePattern().IsMatch(name);

    /// <summary>Whether there is a template of that name, complete or not.</summary>
    public bool Has(string name) => IsName(name) && File.Exists(Path.Combine(directory, name, Description));

    /// <summary>Reads a template; null when there is none of that name.</summary>
    /// <exception cref="StartupException">The template exists, but one of its files is missing or unreadable.</exception>
    public Template? Find(string name)
    {
        var template = Read(name);
        return template?.Files.FirstOrDefault(f => !File.Exists(f)) is { } missing
            ? throw new StartupException(
                $"template '{name}' is incomplete: {missing} is missing; '{TemplateOrigin.CommandFor(template!)} --force' builds it again")
            : template;
    }

    /// <summary>Reads the description of a template, without a check of its files; null when there is no template of that name.</summary>
    /// <exception cref="StartupException">The description is unreadable.</exception>
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
            var template = Parse(File.ReadAllBytes(description))! with { Directory = path };
            return template with { DiskMib = Template.MibOf(template.DiskPath) };
        }
        catch (JsonException e)
        {
            throw new StartupException(
                $"template '{name}': {description} is damaged, which recorded the template's options: "
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

    /// <summary>Installs a finished build under its name. An existing template of that name is moved aside first; if the process ends
    /// before the new one is in place, <see cref="Sweep"/> puts the old one back.</summary>
    public void Install(Template template, string builtDirectory)
    {
        File.WriteAllBytes(
            Path.Combine(builtDirectory, Description), JsonSerializer.SerializeToUtf8Bytes(template, TemplateJson.Default.Template));
        foreach (var shared in new[] { template.KernelPath, template.RootPath })
        {
            // A jailed VMM runs as another user, which must be able to read them.
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

    /// <summary>Removes a template, once no process builds or removes in the directory.</summary>
    /// <param name="name">Name of the template.</param>
    /// <param name="time">Clock of the wait.</param>
    /// <param name="report">Receives one line for each process that this waits for.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>False when there is no template of that name.</returns>
    public async Task<bool> RemoveAsync(string name, TimeProvider time, Action<string> report, CancellationToken cancellationToken)
    {
        if (!IsName(name) || !Directory.Exists(directory))
        {
            return false;
        }

        using var held = await TemplateLock.AcquireAsync(directory, $"removes template '{name}'", time, report, cancellationToken);
        // Sweep first: otherwise the next build could put back a copy that was moved aside.
        Sweep();
        var path = Path.Combine(directory, name);
        if (!Directory.Exists(path))
        {
            return false;
        }

        Directory.Delete(path, recursive: true);
        return true;
    }

    /// <summary>Removes the files of a process that was killed while it built, and puts back the template that it had moved aside. The
    /// caller must hold the lock.</summary>
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
