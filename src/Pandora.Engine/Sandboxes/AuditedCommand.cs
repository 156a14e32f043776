using System.Buffers;
using System.Text;
using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

/// <summary>The text of a command for the audit. It has neither the command's input nor its environment.</summary>
/// <param name="Text">The code, or the arguments as a shell would read them; at most <see cref="MaxBytes"/> of UTF-8.</param>
/// <param name="IsTruncated">Whether the text goes on.</param>
public sealed record AuditedCommand(string Text, bool IsTruncated)
{
    /// <summary>Most bytes of the text, in UTF-8.</summary>
    public const int MaxBytes = 4096;

    // Characters that no shell gives a meaning to.
    private static readonly SearchValues<char> Plain =
        SearchValues.Create("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-");

    internal static AuditedCommand Of(string code)
    {
        var (bytes, chars) = (0, 0);
        foreach (var rune in code.EnumerateRunes())
        {
            bytes += rune.Utf8SequenceLength;
            if (bytes > MaxBytes)
            {
                return new AuditedCommand(code[..chars], IsTruncated: true);
            }

            chars += rune.Utf16SequenceLength;
        }

        return new AuditedCommand(code, IsTruncated: false);
    }

    internal static AuditedCommand Of(ProcessSpec spec)
    {
        if (spec.Code is not null)
        {
            return Of(spec.Code);
        }

        var text = new StringBuilder();
        // The request is not checked yet: its arguments may be as long as its body.
        foreach (var argument in spec.Arguments.TakeWhile(_ => text.Length <= MaxBytes))
        {
            text.Append(text.Length > 0 ? " " : "").Append(Quote(argument ?? ""));
        }

        return Of($"{text}");
    }

    private static string Quote(string argument)
    {
        var used = argument.Length > MaxBytes ? argument[..(MaxBytes + 1)] : argument;
        return used.Length > 0 && !used.AsSpan().ContainsAnyExcept(Plain)
            ? used
            : $"'{used.Replace("'", "'\\''", StringComparison.Ordinal)}'";
    }
}
