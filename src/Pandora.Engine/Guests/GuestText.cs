using System.Text;

namespace Pandora.Engine.Guests;

/// <summary>Texts that a guest chose, and that logs and answers show.</summary>
internal static class GuestText
{
    private const int MaxLength = 300;

    /// <summary>The beginning of the text, in which what is not printable ASCII is a dot.</summary>
    public static string Printable(string text)
    {
        var printable = new StringBuilder();
        foreach (var c in text.AsSpan(0, Math.Min(text.Length, MaxLength)))
        {
            printable.Append(c is >= ' ' and < '\x7f' ? c : '.');
        }

        return printable.ToString();
    }

    /// <summary>The beginning of the text as it is, for answers that escape what is not printable.</summary>
    public static string Bounded(string text) => text.Length <= MaxLength ? text : text[..MaxLength];
}
