using System.Collections;
using System.ComponentModel.DataAnnotations;
using System.Globalization;
using System.Reflection;
using System.Text;
using Pandora.Engine;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>One setting, as <c>./pandora config</c> shows it.</summary>
/// <param name="Variable">Its environment variable.</param>
/// <param name="Value">Its value.</param>
/// <param name="Source">Source of the value: <c>default</c>, <c>environment</c> or <c>appsettings.json</c>.</param>
public sealed record Setting(string Variable, string Value, string Source);

/// <summary>
/// Reads and checks the settings. The environment takes precedence over <c>appsettings.json</c>, and the file over the defaults. With an
/// unknown or invalid setting the server does not start.
/// </summary>
public static class Settings
{
    /// <summary>Path of the file that can contain settings.</summary>
    public const string FilePath = "/etc/pandora/appsettings.json";

    private const string Prefix = "PANDORA_";
    private const string Section = "Pandora";

    // Variables of the script and the command-line client, which have the same prefix.
    private static readonly string[] Others = ["PANDORA_URL", "PANDORA_API_KEY", "PANDORA_LOG"];

    /// <summary>Reads the file of settings, for commands that start no server.</summary>
    public static IConfiguration File() => new ConfigurationBuilder().AddJsonFile(FilePath, optional: true).Build();

    /// <summary>Reads the settings of an options class.</summary>
    /// <exception cref="StartupException">A setting is invalid; the message names it and says which values are allowed.</exception>
    public static T Read<T>(IConfiguration configuration, IDictionary? environment = null)
        where T : new()
    {
        var options = new T();
        foreach (var property in Properties(typeof(T)))
        {
            var (text, source) = Find(property, configuration, environment ?? Environment.GetEnvironmentVariables());
            if (text is null)
            {
                continue;
            }

            try
            {
                property.SetValue(options, Convert(text, TypeOf(property)));
            }
            catch (Exception e) when (e is FormatException or ArgumentException or OverflowException)
            {
                throw new StartupException($"{VariableOf(property)} ({source}): '{text}' is not {Expectation(TypeOf(property))}");
            }
        }

        var problems = new List<ValidationResult>();
        if (!Validator.TryValidateObject(options, new ValidationContext(options), problems, validateAllProperties: true))
        {
            var problem = problems[0];
            var property = typeof(T).GetProperty(problem.MemberNames.First())!;
            var rule = problem.ErrorMessage?.Replace($"The field {property.Name} must", "it must", StringComparison.Ordinal);
            throw new StartupException($"{VariableOf(property)}: {property.GetValue(options)} is not allowed; {rule}");
        }

        return options;
    }

    /// <summary>Rejects variables with the prefix <c>PANDORA_</c> that are no settings: most likely they are misspelt.</summary>
    /// <exception cref="StartupException">There is such a variable.</exception>
    public static void RejectUnknown(IDictionary? environment = null)
    {
        var known = Known().Select(VariableOf).Concat(Others).ToHashSet();
        foreach (
            var name in (environment ?? Environment.GetEnvironmentVariables())
                .Keys.OfType<string>()
                .Where(n => n.StartsWith(Prefix, StringComparison.Ordinal)))
        {
            if (!known.Contains(name))
            {
                throw new StartupException($"{name} is not a setting of Pandora: './pandora config' lists all settings");
            }
        }
    }

    /// <summary>Lists all settings with their values; secrets are hidden.</summary>
    public static IReadOnlyList<Setting> List(IConfiguration configuration)
    {
        var values = new object[]
        {
            Read<EngineOptions>(configuration),
            Read<VmmOptions>(configuration),
            Read<ServerOptions>(configuration),
        };
        return
        [
            .. values.SelectMany(options =>
                Properties(options.GetType())
                    .Select(p =>
                    {
                        var value = System.Convert.ToString(p.GetValue(options), CultureInfo.InvariantCulture) ?? "";
                        var shown =
                            p.Name is nameof(ServerOptions.ApiKeys) or nameof(ServerOptions.MetricsKey) && value.Length > 0
                                ? "(hidden)"
                                : value;
                        return new Setting(VariableOf(p), shown, Find(p, configuration, Environment.GetEnvironmentVariables()).Source);
                    })),
        ];
    }

    /// <summary>The environment variable of a property: <c>PoolSize</c> is <c>PANDORA_POOL_SIZE</c>.</summary>
    internal static string VariableOf(PropertyInfo property)
    {
        var name = new StringBuilder(Prefix);
        foreach (var letter in property.Name)
        {
            name.Append(char.IsUpper(letter) && name.Length > Prefix.Length ? "_" : "").Append(char.ToUpperInvariant(letter));
        }

        return name.ToString();
    }

    /// <summary>The property of each setting.</summary>
    internal static IEnumerable<PropertyInfo> Known() =>
        new[] { typeof(EngineOptions), typeof(VmmOptions), typeof(ServerOptions) }.SelectMany(Properties);

    private static IEnumerable<PropertyInfo> Properties(Type type) => type.GetProperties().Where(p => p.CanWrite);

    private static (string? Text, string Source) Find(PropertyInfo property, IConfiguration configuration, IDictionary environment)
    {
        if (environment[VariableOf(property)] is string { Length: > 0 } fromEnvironment)
        {
            return (fromEnvironment, "environment");
        }

        return configuration[$"{Section}:{property.Name}"] is { } fromFile ? (fromFile, "appsettings.json") : (null, "default");
    }

    // A setting without a default has a nullable type.
    private static Type TypeOf(PropertyInfo property) => Nullable.GetUnderlyingType(property.PropertyType) ?? property.PropertyType;

    private static object Convert(string text, Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.String => text,
        TypeCode.Boolean => bool.Parse(text),
        TypeCode.Double => double.Parse(text, NumberStyles.Float, CultureInfo.InvariantCulture),
        TypeCode.Int32 when !type.IsEnum => int.Parse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture),
        // A number would be accepted as a value of the enumeration.
        _ when int.TryParse(text, out _) => throw new FormatException(),
        _ => Enum.Parse(type, text, ignoreCase: true),
    };

    private static string Expectation(Type type) => Type.GetTypeCode(type) switch
    {
        TypeCode.Boolean => "true or false",
        TypeCode.Double => "a number",
        TypeCode.Int32 when !type.IsEnum => "a whole number",
        _ => $"one of {string.Join(", ", Enum.GetNames(type).Select(n => n.ToLowerInvariant()))}",
    };
}
