using System.Globalization;

namespace Pandora.Engine.Templates;

/// <summary>The options of <c>template build</c> that a template was built with. A template without options is Pandora's own, which
/// <c>./pandora up</c> may build again; other templates are the operator's.</summary>
internal static class TemplateOrigin
{
    private const string BasePackages = "base packages";

    private static readonly TemplateSpec Defaults = new() { Name = "", AgentPath = "" };

    /// <summary>Describes the content of a template, for people.</summary>
    public static string Describe(TemplateSpec spec)
    {
        if (spec.RootPath is not null)
        {
            return $"root filesystem {Path.GetFileName(spec.RootPath)}";
        }

        return spec.Packages.Count == 0 ? BasePackages : $"{BasePackages} and {string.Join(", ", spec.Packages)}";
    }

    /// <summary>Returns the options that differ from the defaults, with the full paths of files.</summary>
    public static IReadOnlyList<string> OptionsOf(TemplateSpec spec)
    {
        var options = new List<string>();
        void Add(string option, string? value)
        {
            if (!string.IsNullOrEmpty(value))
            {
                options.AddRange([option, value]);
            }
        }

        void AddFile(string option, string? path) => Add(option, path is null ? null : Path.GetFullPath(path));
        void AddSize(string option, int size, int usual) => Add(option, size == usual ? null : size.ToString(CultureInfo.InvariantCulture));
        void AddBound(string option, int? most) => Add(option, most?.ToString(CultureInfo.InvariantCulture));
        Add("--packages", string.Join(',', spec.Packages));
        AddFile("--setup", spec.SetupScriptPath);
        AddFile("--rootfs", spec.RootPath);
        AddFile("--kernel", spec.KernelPath);
        AddFile("--modules", spec.ModulesPath);
        Add("--kernel-args", spec.KernelArguments);
        AddSize("--vcpus", spec.VcpuCount, Defaults.VcpuCount);
        AddSize("--memory", spec.MemoryMiB, Defaults.MemoryMiB);
        AddSize("--disk", spec.DiskMiB, Defaults.DiskMiB);
        AddBound("--max-memory", spec.MaxMemoryMib);
        AddBound("--max-vcpus", spec.MaxVcpus);
        AddBound("--max-disk", spec.MaxDiskMib);
        return options;
    }

    /// <summary>Returns the options of a template: as recorded or, if an older Pandora built it, guessed from its files.</summary>
    public static IReadOnlyList<string> OptionsOf(Template template) => template.BuiltWith ?? Guess(template);

    /// <summary>Returns the command that builds a template with the same options.</summary>
    public static string CommandFor(Template template) =>
        string.Join(' ', ["./pandora template build", template.Name, .. OptionsOf(template).Select(Quote)]);

    /// <summary>Quotes a word for a shell, if that is necessary.</summary>
    public static string Quote(string word) => word.All(c => char.IsAsciiLetterOrDigit(c) || "-_./,=:@%+".Contains(c)) ? word
        : $"'{word.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private static List<string> Guess(Template template)
    {
        var spec = Defaults with
        {
            VcpuCount = template.VcpuCount,
            MemoryMiB = template.MemoryMiB,
            KernelArguments = template.KernelArguments ?? "",
        };
        var options = new List<string>();
        if (template.Description.StartsWith($"{BasePackages} and ", StringComparison.Ordinal))
        {
            options.AddRange(
                ["--packages", template.Description[$"{BasePackages} and ".Length..].Replace(" ", "", StringComparison.Ordinal)]);
        }
        else if (template.Description != BasePackages)
        {
            options.AddRange(["--rootfs", "FILE"]);
        }

        // The initrd is compressed only with the distribution's kernel.
        if (File.Exists(template.InitrdPath) && IsPlainArchive(template.InitrdPath))
        {
            options.AddRange(["--kernel", "FILE"]);
        }

        if (File.Exists(template.DiskPath))
        {
            spec = spec with { DiskMiB = Template.MibOf(template.DiskPath) };
        }

        return [.. options, .. OptionsOf(spec)];
    }

    private static bool IsPlainArchive(string path)
    {
        Span<byte> start = stackalloc byte[6];
        using var file = File.OpenRead(path);
        return file.ReadAtLeast(start, start.Length, throwOnEndOfStream: false) == start.Length && start.SequenceEqual("070701"u8);
    }
}
