using Pandora.Engine;

namespace Pandora.E2b.Control;

/// <summary>Names of templates, as E2B's clients know them.</summary>
internal static class TemplateNames
{
    /// <summary>E2B's name of the default template.</summary>
    public const string Base = "base";

    /// <summary>The template that a client means.</summary>
    /// <exception cref="PandoraException">It names none.</exception>
    public static string Of(string? name)
    {
        if (name is not { Length: > 0 })
        {
            throw PandoraException.Invalid("templateID", $"must name a template, such as '{Base}'");
        }

        // Templates have no tags yet: only the tag of the newest build is one.
        if (name.Split(':') is [var bare, var tag])
        {
            return tag is "default" or "latest"
                ? Of(bare)
                : throw PandoraException.Invalid("templateID", $"template '{bare}' has no tag '{tag}': tags are not supported yet");
        }

        return name == Base ? EngineOptions.DefaultTemplate : name;
    }

    /// <summary>The name by which clients know a template.</summary>
    public static string AliasOf(string template) => template == EngineOptions.DefaultTemplate ? Base : template;
}
